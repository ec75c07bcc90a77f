# syntax=docker/dockerfile:1
FROM rust:1-bookworm AS build
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/build/target \
    cargo build --locked --release --bin chatlake --package chatlake \
    && cargo build --locked --release --bin chatlake-simulator --package chatlake-simulator \
    && cp target/release/chatlake target/release/chatlake-simulator /usr/local/bin/ \
    && strip --strip-debug /usr/local/bin/chatlake /usr/local/bin/chatlake-simulator

FROM debian:bookworm-slim AS base
# Certificates for Stream and S3; an init that hands SIGTERM on, so that a stopped container ends its run in order.
# Versions are those of the Debian release, so that building again brings in what was fixed.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 chatlake \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/chatlake chatlake \
    && install --directory --owner 10001 --group 10001 /var/lib/chatlake
USER 10001:10001
WORKDIR /var/lib/chatlake

FROM base AS simulator
COPY --from=build /usr/local/bin/chatlake-simulator /usr/local/bin/
EXPOSE 8080
ENTRYPOINT ["tini", "--", "chatlake-simulator"]
CMD ["--listen", "0.0.0.0:8080"]

FROM python:3.13-slim-bookworm AS query
COPY integrations/docker/requirements.txt /opt/query/
RUN pip install --no-cache-dir --requirement /opt/query/requirements.txt
COPY integrations/docker/query.py /opt/query/
USER 10001:10001
ENTRYPOINT ["python", "/opt/query/query.py"]

# Without HEALTHCHECK: most runs end by themselves, and one that stays is asked where it is told to listen.
FROM base AS chatlake
LABEL org.opencontainers.image.title="chatlake" \
      org.opencontainers.image.description="Stream Chat conversations into a Parquet data lake, exactly once" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /usr/local/bin/chatlake /usr/local/bin/
# The one folder that is written to: mount something there, and all else can be read-only.
ENV CHATLAKE_TEMP_DIR=/var/lib/chatlake
EXPOSE 9464
ENTRYPOINT ["tini", "--", "chatlake"]
CMD ["--help"]
