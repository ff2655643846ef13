"""Carries frames between two network devices of this namespace, each a while after it came: latency for kernels without netem.

usage: relay.py LEFT RIGHT SECONDS
"""
import heapq
import itertools
import select
import socket
import sys
import time

ALL_FRAMES = 3  # ETH_P_ALL
SENT_BY_US = 4  # PACKET_OUTGOING
LARGEST = 1 << 17


def device(name):
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    # Frames come with what the card would do later, checksum and segmentation, and leave with it.
    port.setsockopt(263, 15, 1)  # SOL_PACKET, PACKET_VNET_HDR
    port.bind((name, ALL_FRAMES))
    return port


left, right = device(sys.argv[1]), device(sys.argv[2])
delay = float(sys.argv[3])
other = {left: right, right: left}
queue = []
number = itertools.count()
print("ready", flush=True)
while True:
    wait = max(0.0, queue[0][0] - time.monotonic()) if queue else None
    for port in select.select(list(other), [], [], wait)[0]:
        try:
            frame, address = port.recvfrom(LARGEST)
        except OSError:
            continue  # the device is down
        if address[2] != SENT_BY_US:
            heapq.heappush(queue, (time.monotonic() + delay, next(number), other[port], frame))
    while queue and queue[0][0] <= time.monotonic():
        _, _, port, frame = heapq.heappop(queue)
        try:
            port.send(frame)
        except OSError:
            pass  # the device is down, and the frame is lost as on any cut cable
