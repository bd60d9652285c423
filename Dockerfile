# The operator's image. Each platform (linux/amd64, linux/arm64) is built on a machine of its kind.
# hack/image proves this file where no registry of images can be reached.
# The tags of both are of the same Debian: the C library is the one that the binary was linked with.
FROM docker.io/library/rust:1.95-trixie AS compiled
ARG TARGETARCH
WORKDIR /build
COPY .cargo .cargo
# Kernels for arm64 have pages of up to 64 KiB, and jemalloc has to be built for the largest. ([env] is that file's last table.)
RUN test "${TARGETARCH}" != arm64 || echo 'JEMALLOC_SYS_WITH_LG_PAGE = "16"' >>.cargo/config.toml
# The dependencies first, with sources that hold nothing: a change of the operator's own code does not compile them again.
COPY Cargo.toml Cargo.lock ./
COPY tests/testbed/Cargo.toml tests/testbed/
COPY fuzz/Cargo.toml fuzz/
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    mkdir -p src benches tests/testbed/src \
    && echo 'fn main() {}' >src/main.rs \
    && touch src/lib.rs benches/publish.rs tests/testbed/src/lib.rs \
    && cargo build --release --locked --package opendepot --bin opendepot
COPY src src
ARG REVISION=unknown
# Files keep their times when they are copied; cargo has to see that these are newer than the empty ones.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    touch src/main.rs src/lib.rs \
    && OPENDEPOT_REVISION="${REVISION}" cargo build --release --locked --package opendepot --bin opendepot \
    && cp target/release/opendepot /opendepot

FROM gcr.io/distroless/cc-debian13:nonroot
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="OpenDepot" \
      org.opencontainers.image.description="Publishes Terraform and OpenTofu modules from GitHub releases to S3" \
      org.opencontainers.image.source="https://github.com/opendepot/opendepot" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=compiled /opendepot /opendepot
# distroless calls it nonroot; a number is what Kubernetes can tell from root.
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/opendepot"]
CMD ["run"]
