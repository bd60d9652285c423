# The operator's image. Each platform (linux/amd64, linux/arm64) is built on a machine of that architecture.
# hack/image tests this file without access to an image registry.
# Both base images are of the same Debian release, so the binary runs with the C library that it was linked with.
FROM docker.io/library/rust:1.95-trixie AS compiled
ARG TARGETARCH
WORKDIR /build
COPY .cargo .cargo
# arm64 kernels have pages of up to 64 KiB, and jemalloc must be built for the largest. ([env] is the last table of that file.)
RUN test "${TARGETARCH}" != arm64 || echo 'JEMALLOC_SYS_WITH_LG_PAGE = "16"' >>.cargo/config.toml
# Compiles the dependencies first, with empty sources, so that a change of the operator's code does not compile them again.
COPY Cargo.toml Cargo.lock ./
COPY tests/testbed/Cargo.toml tests/testbed/
COPY fuzz/Cargo.toml fuzz/
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    mkdir -p src tests/testbed/src \
    && echo 'fn main() {}' >src/main.rs \
    && touch src/lib.rs tests/testbed/src/lib.rs \
    && cargo build --release --locked --package opendepot --bin opendepot
COPY src src
ARG REVISION=unknown
# COPY keeps the times of files; touch makes them newer than the empty ones for cargo.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    touch src/main.rs src/lib.rs \
    && OPENDEPOT_REVISION="${REVISION}" cargo build --release --locked --package opendepot --bin opendepot \
    && cp target/release/opendepot /opendepot

FROM gcr.io/distroless/cc-debian13:nonroot
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="OpenDepot" \
      org.opencontainers.image.description="Publishes Terraform and OpenTofu modules from GitHub to S3 and serves them as a registry" \
      org.opencontainers.image.source="https://github.com/opendepot/opendepot" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=compiled /opendepot /opendepot
# The user nonroot of distroless, as a number, so that Kubernetes can verify that it is not root.
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/opendepot"]
CMD ["run"]
