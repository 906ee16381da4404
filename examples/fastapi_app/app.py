"""A FastAPI application that stores its users with writebehind, and reads its own writes.

    uvicorn app:app --app-dir examples/fastapi_app --port 8001
    curl -X PUT localhost:8001/users/ada -H 'Content-Type: application/json' -d '{"name": "Ada"}'

It needs `pip install fastapi uvicorn`, and runs in the directory of a `writebehind.toml` that has the collection
`users`: on the servers that the settings name, else on the system that runs there, as after `make run`. The
workers of that system bring to MongoDB what is acknowledged here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from writebehind import AsyncCollection, aconnect, errors


class User(BaseModel):
    """What is stored."""

    name: str = Field(min_length=1)
    tags: list[str] = []


class UserChanges(BaseModel):
    """What a PATCH may change: of these fields, those that the request has. None of them may be removed."""

    name: str = Field("", min_length=1)
    tags: list[str] = []


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One pipeline for the process, closed when it ends."""
    async with aconnect() as pipeline:
        app.state.pipeline = pipeline
        yield


app = FastAPI(title="Users", lifespan=lifespan)

#: The first class that fits decides what a client is told.
STATUS: dict[type[errors.WritebehindError], int] = {
    errors.DocumentNotFoundError: 404,
    errors.ConflictError: 409,
    errors.PreconditionFailedError: 412,
    errors.InvalidDocumentError: 422,
    errors.RequestError: 400,
    errors.UnavailableError: 503,
}


@app.exception_handler(errors.WritebehindError)
async def refuse(_: Request, error: errors.WritebehindError) -> JSONResponse:
    """An answer for each error of the library."""
    status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
    return JSONResponse({"detail": str(error)}, status)


def users_of(request: Request) -> AsyncCollection:
    """The collection that the routes share."""
    collection: AsyncCollection = request.app.state.pipeline.collection("users")
    return collection


Users = Annotated[AsyncCollection, Depends(users_of)]
IfMatch = Annotated[str | None, Header()]


@app.put("/users/{name}")
async def put_user(
    name: str, user: User, users: Users, response: Response, if_match: IfMatch = None
) -> dict[str, Any]:
    """Create or replace a user; with If-Match only the one with that ETag."""
    condition: dict[str, Any] = {} if if_match is None else {"if_match": if_match.strip('"')}
    written = await users.put(name, user, **condition)
    response.headers["ETag"] = f'"{written.etag}"'
    return {"id": written.id, "version": written.version, "durability": written.durability}


@app.get("/users/{name}")
async def get_user(name: str, users: Users, response: Response) -> User:
    """A user, as it was acknowledged last."""
    entry = (await users.read(name)).entry
    if not entry.exists:
        raise HTTPException(404, f"there is no user {name}")
    response.headers["ETag"] = f'"{entry.etag}"'
    return User.model_validate(entry.document)


@app.patch("/users/{name}")
async def patch_user(name: str, changes: UserChanges, users: Users) -> dict[str, Any]:
    """Change the fields that the request has."""
    written = await users.patch(name, changes)
    return {"id": written.id, "version": written.version}


@app.delete("/users/{name}", status_code=204)
async def delete_user(name: str, users: Users) -> None:
    """Delete a user."""
    await users.delete(name)
