# usage: qmp.py SOCKET COMMAND [JSON-ARGUMENTS]: prints what it returned.
import json, socket, sys

s = socket.socket(socket.AF_UNIX)
s.settimeout(20)
s.connect(sys.argv[1])
lines = s.makefile("rw")


def command(name, arguments):
    lines.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
    lines.flush()
    while True:
        answer = json.loads(lines.readline())
        if "event" not in answer:
            return answer


lines.readline()
command("qmp_capabilities", {})
answer = command(sys.argv[2], json.loads(sys.argv[3]) if len(sys.argv) > 3 else {})
print(json.dumps(answer.get("return", answer)))
sys.exit("error" in answer)
