"""Documents of nested lists, objects, numbers and text to JSON and back, many times over.
usage: json_loop.py LOOPS. Prints a hash of all text that came out."""
import json
import sys
import zlib


def documents():
    state = 2024
    result = []
    for n in range(60):
        orders = []
        for i in range(n % 12 + 4):
            state = (state * 1103515245 + 12345) % 2147483648
            orders.append({
                "id": state,
                "price": state / 1024,
                "name": f"item {state % 1000} \"quoted\" \u00e4\u00f6\u00fc \u2603",
                "tags": [f"tag{state >> j & 15}" for j in range(5)],
                "stock": None if state & 64 else bool(state & 128),
                "size": {"width": state % 77, "height": -(state % 99), "unit": "mm"},
            })
        result.append({"customer": n, "orders": orders, "empty": [], "nothing": {}})
    return result


def main():
    data = documents()
    total = 0
    for loop in range(int(sys.argv[1])):
        indent = 2 if loop % 8 == 7 else None
        text = json.dumps(data, indent=indent, sort_keys=loop % 2 == 1)
        back = json.loads(text)
        if back != data:
            sys.exit("what came back is not what went out")
        total = zlib.crc32(text.encode(), total)
    print(f"{total:08x}")


main()
