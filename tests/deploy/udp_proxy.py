"""A bad line between two UDP ports, in a process of its own: loses, doubles, reorders and corrupts, by a seed.

udp_proxy.py LISTEN FORWARD SEED LOSS CORRUPTION
"""

import random
import select
import socket
import sys


def main() -> None:
    listen, forward, seed = (int(word) for word in sys.argv[1:4])
    loss, corruption = (float(word) for word in sys.argv[4:6])
    chance = random.Random(seed)
    near, far = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    near.bind(("127.0.0.1", listen))
    far.bind(("127.0.0.1", 0))
    peer, held = None, []
    print("ready", flush=True)
    while True:
        for one in select.select([near, far], [], [])[0]:
            try:
                data, sender = one.recvfrom(4096)
            except ConnectionRefusedError:
                continue
            if one is near:
                peer = sender
            if chance.random() < loss:
                continue
            if chance.random() < corruption:
                place = chance.randrange(len(data))
                data = data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :]
            held.append((one, data))
            if chance.random() < 0.2 and len(held) < 4:
                continue  # goes out after its successor
            chance.shuffle(held)
            for origin, packet in held:
                for _ in range(2 if chance.random() < 0.1 else 1):
                    if origin is near:
                        far.sendto(packet, ("127.0.0.1", forward))
                    elif peer is not None:
                        near.sendto(packet, peer)
            held.clear()


if __name__ == "__main__":
    main()
