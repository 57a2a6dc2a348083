# usage: move.py SOCKET ENGINE:SECONDS...: moves a running guest from engine to engine, in turn, each for so long, until
# it ends; or, with a single ENGINE and no seconds, once. Prints how often, or what was wrong.
import json, socket, sys, time

s = socket.socket(socket.AF_UNIX)
s.settimeout(60)
for attempt in range(100):
    try:
        s.connect(sys.argv[1])
        break
    except OSError:
        time.sleep(0.1)
lines = s.makefile("rw")


def command(name, **arguments):
    lines.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
    lines.flush()
    while True:
        line = lines.readline()
        if not line:
            raise ConnectionError
        answer = json.loads(line)
        if "event" not in answer:
            return answer


def move(engine):
    # A device may be in the middle of a transfer that the check engine has to see.
    for attempt in range(100):
        answer = command("x-set-engine", engine=engine)
        if "try again" not in json.dumps(answer):
            break
        time.sleep(0.02)
    if "error" in answer:
        sys.exit("%s: %s" % (engine, answer["error"]["desc"]))


lines.readline()
command("qmp_capabilities")
moves = 0
if ":" not in sys.argv[2]:
    move(sys.argv[2])
    print(command("x-query-engine")["return"]["engine"])
    sys.exit()
try:
    while True:
        for engine, seconds in (argument.split(":") for argument in sys.argv[2:]):
            move(engine)
            moves += 1
            time.sleep(float(seconds))
except (ConnectionError, socket.timeout):
    print(moves)
