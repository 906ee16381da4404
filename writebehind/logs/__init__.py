"""Lines of the service's processes: their fields, their two formats, and changes of state as events..

Only the service's own processes call `writebehind.logs.setup`: a library user's logging is left as it is.
"""
