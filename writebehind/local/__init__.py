"""The whole system on one machine: embedded servers, and processes that are kept alive. Imports `settings`."""
