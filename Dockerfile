# Weir in a container: built from source, run without root on a slim Debian.
#
#   docker build -t weir .
#   docker run --rm -p 6380:6380 -p 9600:9600 -v ./weir.toml:/etc/weir/weir.toml:ro weir
#
# In a container loopback is of no use to clients: let the file say listen = ["0.0.0.0:6380"], admin = "0.0.0.0:9600" and a
# password (or users, or auth), without which Weir serves nobody from outside.

FROM rust:1.89-slim-bookworm AS build
# Beside the compiler, what deploy/build needs to see how Weir is used.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev python3 redis-server postgresql \
    && rm -rf /var/lib/apt/lists/* && rustup component add llvm-tools
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY config config
COPY tests tests
COPY deploy/build deploy/build
RUN deploy/build && strip target/pgo/weir

FROM debian:bookworm-slim
# The databases' certificates are checked against the system's own.
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/weir --create-home --shell /usr/sbin/nologin weir
COPY --from=build /src/target/pgo/weir /usr/local/bin/weir
COPY LICENSE /usr/share/doc/weir/LICENSE
USER 10001:10001
WORKDIR /var/lib/weir
EXPOSE 6380 9600
STOPSIGNAL SIGTERM
# bash speaks HTTP well enough to ask whether it is alive; the image needs no other program for that.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/9600 && printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' >&3 && read -r line <&3 && [[ $line == *' 200 '* ]]"]
ENTRYPOINT ["/usr/local/bin/weir"]
CMD ["serve", "--config", "/etc/weir/weir.toml"]
