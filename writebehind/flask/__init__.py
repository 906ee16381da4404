"""Into a Flask application: the pipeline as an extension, the API as a blueprint. Imports the core and Flask.

from flask import Flask
from writebehind.flask import Writebehind, api

app = Flask("shop")
writebehind = Writebehind(app)
app.register_blueprint(api(app.extensions["writebehind"]), url_prefix="/store")
"""

from writebehind.flask.blueprint import api
from writebehind.flask.extension import Writebehind

__all__ = ["Writebehind", "api"]
