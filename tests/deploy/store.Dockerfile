# A store made of the base image, for `make containers` where the official one cannot be pulled:
#
#   docker build -t store:check -f tests/deploy/store.Dockerfile --build-arg BASE_IMAGE=... tests/deploy
#   VALKEY_IMAGE=store:check make containers
ARG BASE_IMAGE=python:3.11-slim-bookworm
FROM ${BASE_IMAGE}
# hadolint ignore=DL3008
RUN apt-get update && \
    apt-get install -y --no-install-recommends redis-server && \
    rm -rf /var/lib/apt/lists/* && \
    ln -s redis-server /usr/bin/valkey-server && \
    ln -s redis-cli /usr/bin/valkey-cli && \
    mkdir /data && \
    chown 999:999 /data
WORKDIR /data
USER 999:999
CMD ["valkey-server"]
