# A static binary in an empty image, as a user without rights.
#   docker build -t watchpost .
FROM rust:1.95-alpine AS build
# linux-headers and perl are for aws-lc, libcap-setcap for the second binary.
RUN apk add --no-cache build-base cmake perl linux-headers libcap-setcap ca-certificates tzdata
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin watchpost \
    && install -Dm755 target/release/watchpost /out/usr/local/bin/watchpost
# For ICMP that must not be fragmented. A file capability makes an exec fail where NET_RAW is not granted, so the usual
# binary goes without. The chart chooses this one with icmp.mode=netRaw.
RUN install -m755 /out/usr/local/bin/watchpost /out/usr/local/bin/watchpost-net-raw \
    && setcap cap_net_raw+ep /out/usr/local/bin/watchpost-net-raw \
    && install -Dm644 packaging/debian/watchpost.yml /out/etc/watchpost/watchpost.yml \
    && install -Dm644 /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ca-certificates.crt \
    && mkdir -p /out/usr/share && cp -r /usr/share/zoneinfo /out/usr/share/zoneinfo \
    && install -d -m700 -o 65532 -g 65532 /out/var/lib/watchpost

FROM scratch
LABEL org.opencontainers.image.title=watchpost \
      org.opencontainers.image.description="Synthetic blackbox prober with a dead man's heartbeat" \
      org.opencontainers.image.source=https://github.com/watchpost/watchpost \
      org.opencontainers.image.licenses=Apache-2.0
COPY --from=build /out/ /
USER 65532:65532
EXPOSE 9115 9116
VOLUME /var/lib/watchpost
ENTRYPOINT ["/usr/local/bin/watchpost"]
CMD ["--config.file=/etc/watchpost/watchpost.yml", "--storage.path=/var/lib/watchpost"]
