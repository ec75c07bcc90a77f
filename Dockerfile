# syntax=docker/dockerfile:1
FROM rust:1-bookworm AS build
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/build/target \
    cargo build --locked --release --bin chatlake --package chatlake \
    && cargo build --locked --release --bin chatlake-simulator --package chatlake-simulator \
    && cp target/release/chatlake target/release/chatlake-simulator /usr/local/bin/

FROM debian:bookworm-slim AS base
# Certificates for Stream and S3; an init that hands SIGTERM on, so that a stopped container ends its run in order.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --create-home --home-dir /var/lib/chatlake chatlake
USER 10001:10001
WORKDIR /var/lib/chatlake

FROM base AS simulator
COPY --from=build /usr/local/bin/chatlake-simulator /usr/local/bin/
EXPOSE 8080
ENTRYPOINT ["tini", "--", "chatlake-simulator"]
CMD ["--listen", "0.0.0.0:8080"]

FROM base AS chatlake
COPY --from=build /usr/local/bin/chatlake /usr/local/bin/
ENTRYPOINT ["tini", "--", "chatlake"]
CMD ["--help"]
