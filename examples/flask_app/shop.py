"""A shop's Flask application with routes, errors and data of its own, into which writebehind is put.

In the repository's root, after `make run` in another terminal, and `. .venv/bin/activate` in this one:

    gunicorn --pythonpath examples/flask_app -b 127.0.0.1:8001 --preload -w 2 --threads 8 "shop:create_app()"

    curl localhost:8001/products                                        # its own route, its own data
    curl -X PUT localhost:8001/orders/A1 -d items=tea                   # its own view writes by the pipeline
    curl -H 'Authorization: Bearer open sesame' localhost:8001/api/v1/orders/A1      # the API, mounted below /api

The workers of that system persist what it writes. On servers of your own, which `REDIS_URL` and `MONGODB_URL`
name, the workers of a Celery application do so: see `examples/celery_app`.
"""

from __future__ import annotations

import os
from typing import Any

from flask import Flask, abort, current_app, request
from flask.typing import ResponseReturnValue
from werkzeug.middleware.proxy_fix import ProxyFix

from writebehind.celery import FlushPublisher
from writebehind.flask import Writebehind, api

PRODUCTS = {"tea": "Darjeeling", "milk": "whole"}

#: For views in any module of the shop; each application has a pipeline of its own.
writebehind = Writebehind(publisher=FlushPublisher)


def create_app() -> Flask:
    """Build the application; a server may fork afterwards."""
    app = Flask("shop")
    app.config.from_mapping(
        TOKEN="open sesame",  # noqa: S106 - an example; SHOP_TOKEN in the environment is another one
        PROXIES=0,
        WRITEBEHIND_COLLECTIONS={"orders": {"id": "string"}},
    )
    app.config.from_prefixed_env("SHOP")
    app.wsgi_app = behind(app.config["PROXIES"], app.wsgi_app)  # type: ignore[method-assign]
    pipeline = writebehind.init_app(app)

    store = api(pipeline, admin=only_the_shop)
    store.before_request(only_the_shop)
    app.register_blueprint(store, url_prefix="/api")

    app.add_url_rule("/products", view_func=products)
    app.add_url_rule("/process", view_func=process)
    app.add_url_rule("/orders/<number>", view_func=order, methods=["PUT"])
    app.register_error_handler(404, not_found)
    return app


def products() -> dict[str, str]:
    """The shop's own data."""
    return PRODUCTS


def process() -> dict[str, int]:
    """Which of the server's processes answers."""
    return {"process": os.getpid()}


def order(number: str) -> ResponseReturnValue:
    """Take an order, as a form has it, and answer what is stored by now: one reads one's own writes."""
    items = request.form.getlist("items")
    if not items or not PRODUCTS.keys() >= set(items):
        abort(404)
    orders = writebehind.collection("orders")
    written = orders.put(number, {"items": items})
    taken: dict[str, Any] | None = orders.get(number)
    return {"order": taken, "version": written.version}, 201 if written.created else 200


def only_the_shop() -> None:
    """Let those use the API who have the shop's token."""
    if request.headers.get("Authorization") != f"Bearer {current_app.config['TOKEN']}":
        abort(401)


def not_found(_: Exception) -> ResponseReturnValue:
    """The shop's own page for what there is not."""
    return "<h1>The shop has no such thing</h1>", 404


def behind(proxies: int, wsgi_app: Any) -> Any:
    """Believe what so many proxies say of the address that a client sees, `X-Forwarded-Prefix` too."""
    if not proxies:
        return wsgi_app
    return ProxyFix(wsgi_app, x_for=proxies, x_proto=proxies, x_host=proxies, x_prefix=proxies)
