# The project's images. docs/deployment.md says how each is run.
#
#   docker build --target runtime-cpu -t stamp-recommender:cpu .
#   docker build --target runtime-cuda -t stamp-recommender:cuda .
#   docker build --target train -t stamp-recommender:train .
#   docker build --target load -t stamp-recommender:load .
#
# Everything but torch is held to the hashes of requirements/*.lock (docs/decisions/0002).
ARG BASE_IMAGE=python:3.11-slim-bookworm
# What `train` computes on: cpu or cuda.
ARG TRAIN_ON=cpu
ARG TORCH_VERSION=2.13.0

# ---- what every image begins with -------------------------------------------------------------
FROM ${BASE_IMAGE} AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MALLOC_ARENA_MAX=2 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /app
# Volumes begin as copies of these folders, so that the user owns them.
RUN groupadd --gid 10001 stamp && \
    useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin stamp && \
    mkdir bundles reports runs var && \
    chown 10001:10001 bundles reports runs var
LABEL org.opencontainers.image.title="STAMP Recommender" \
      org.opencontainers.image.description="Generative recommendation as a service" \
      org.opencontainers.image.licenses="Apache-2.0"

# ---- environments, made by the base's pip, which none of them holds ----------------------------
FROM base AS build
RUN python -m venv --without-pip /app/.venv
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore

FROM build AS build-service
COPY requirements/service.lock requirements/
RUN python -m pip --python .venv/bin/python install --no-deps --require-hashes -r requirements/service.lock

FROM build-service AS build-cpu
ARG TORCH_VERSION
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# Its own tests, C++ headers and tools are a quarter of it and never used, but for one helper.
RUN python -m pip --python .venv/bin/python install --no-deps --index-url "${TORCH_INDEX}" "torch==${TORCH_VERSION}+cpu" && \
    rm -r .venv/lib/python*/site-packages/torch/test .venv/lib/python*/site-packages/torch/include && \
    find .venv/lib/python*/site-packages/torch/bin -type f ! -name torch_shm_manager -delete

FROM build-service AS build-cuda
ARG TORCH_VERSION
ARG TORCH_CUDA_INDEX=https://download.pytorch.org/whl/cu130
# With its dependencies: CUDA comes as packages, so that the base needs none, only the host's driver.
RUN python -m pip --python .venv/bin/python install --index-url "${TORCH_CUDA_INDEX}" "torch==${TORCH_VERSION}"

# hadolint ignore=DL3006
FROM build-${TRAIN_ON} AS build-train
WORKDIR /app
COPY requirements/runtime.lock requirements/demo.lock requirements/
RUN python -m pip --python .venv/bin/python install --no-deps --require-hashes -r requirements/runtime.lock && \
    python -m pip --python .venv/bin/python install --no-deps --require-hashes -r requirements/demo.lock

FROM build AS build-load
COPY requirements/loadtest.lock requirements/
RUN python -m pip --python .venv/bin/python install --no-deps --require-hashes -r requirements/loadtest.lock

# ---- our code, compiled: a read-only file system keeps no bytecode ------------------------------
# The C compiler comes as a package, and stays in its stage.
FROM build AS compiler
COPY requirements/kernels.lock requirements/
RUN python -m pip --python .venv/bin/python install --no-deps --require-hashes -r requirements/kernels.lock
WORKDIR /code
COPY model model
RUN HOME=/tmp/compiler /app/.venv/bin/python -m model.kernels /app/.venv/bin/python -m ziglang cc

FROM base AS code
WORKDIR /code
COPY model model
COPY service service
COPY --from=compiler /code/model/kernels/lib model/kernels/lib
RUN python -m compileall -q -p /app model service

# ---- the service -------------------------------------------------------------------------------
FROM base AS runtime
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV PATH=/app/.venv/bin:$PATH \
    STAMP_HOST=0.0.0.0 \
    STAMP_PORT=8000
COPY deploy/probe.py /app/probe.py
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s --retries=3 \
    CMD ["python", "/app/probe.py", "/health/live"]
ENTRYPOINT ["python", "-m", "service"]
CMD ["serve"]

FROM runtime AS runtime-cuda
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    STAMP_DEVICE=cuda
COPY --from=build-cuda /app/.venv .venv
COPY --from=code /code .
USER 10001:10001

# ---- training, the demo's data included ---------------------------------------------------------
FROM base AS train
ENV PATH=/app/.venv/bin:$PATH
COPY --from=build-train /app/.venv .venv
COPY --from=code /code .
COPY training training
COPY scripts/demo.sh scripts/
STOPSIGNAL SIGTERM
USER 10001:10001
ENTRYPOINT ["python", "-m", "training"]
CMD ["--help"]

# ---- load from outside, over HTTP alone ---------------------------------------------------------
FROM base AS load
ENV PATH=/app/.venv/bin:$PATH
COPY --from=build-load /app/.venv .venv
COPY loadtest loadtest
STOPSIGNAL SIGTERM
USER 10001:10001
ENTRYPOINT ["python", "-m", "loadtest"]
CMD ["--help"]

# ---- last, so that `docker build .` makes it ----------------------------------------------------
FROM runtime AS runtime-cpu
COPY --from=build-cpu /app/.venv .venv
COPY --from=code /code .
USER 10001:10001
