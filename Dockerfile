# One image for all processes: the command says which.
FROM python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b AS build
WORKDIR /build
RUN python -m venv /builder && python -m venv --without-pip /venv
COPY requirements-prod.lock .
RUN /builder/bin/pip --python /venv/bin/python install --no-cache-dir --require-hashes -r requirements-prod.lock
# The wheel's build backend, as the lock for development has it. What is missing in this list, pip refuses.
COPY requirements.lock .
RUN awk '/^(hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers)==/,/# via/' requirements.lock > backend.lock \
 && /builder/bin/pip install --no-cache-dir --require-hashes -r backend.lock
COPY pyproject.toml README.md LICENSE Procfile ./
COPY writebehind writebehind
COPY web web
COPY tasks tasks
RUN /builder/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /dist . \
 && /builder/bin/pip --python /venv/bin/python install --no-cache-dir --no-deps /dist/*.whl

FROM python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b
RUN useradd --system --uid 10001 --no-create-home writebehind && install -d -o 10001 /run/writebehind /keys /flower /passwords/redis /passwords/mongo /passwords/rabbitmq
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# The settings file is looked for here.
WORKDIR /srv
# By number: orchestrators that refuse root cannot look up a name.
USER 10001
EXPOSE 8000
STOPSIGNAL SIGTERM
CMD ["writebehind", "run", "web"]
