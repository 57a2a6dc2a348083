# usage: qmp.py RINGSIDE KERNEL DIR: prints "ok NAME" or "not-ok NAME" lines. KERNEL echoes its serial line.
import json, os, socket, subprocess, sys, time

ringside, kernel, where = sys.argv[1:4]
qmp_path, line_path = where + "/qmp", where + "/line"


def verdict(good, name, why=""):
    print("ok" if good else "not-ok", "qmp: " + name)
    if not good:
        print("#", why)


def connect(path):
    for _ in range(100):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(10)
        try:
            s.connect(path)
            return s
        except OSError:
            s.close()
            time.sleep(0.05)
    sys.exit("no socket at " + path)


child = subprocess.Popen([ringside, "run", "--kernel", kernel, "--memory", "64M", "--serial", "unix:" + line_path,
                          "--qmp", "unix:" + qmp_path], stdin=subprocess.DEVNULL)
control = connect(qmp_path)
lines = control.makefile("rw")


def answer():
    return json.loads(lines.readline())


def command(text):
    lines.write(text)
    lines.flush()
    return answer()


greeting = answer()
verdict("version" in greeting.get("QMP", {}), "greeting", greeting)
a = command('{"execute": "query-status"}')
verdict(a["error"]["class"] == "CommandNotFound", "nothing before the capabilities", a)
a = command('{"execute": "qmp_capabilities", "id": [1]}')
verdict(a == {"return": {}, "id": [1]}, "capabilities, with the id given back", a)
lines.write('{"execute":\n"query-')
lines.flush()
time.sleep(0.2)
a = command('status"}')
verdict(a["return"]["status"] == "running" and a["return"]["running"], "a command in two pieces", a)
a = command('{"execute": "query-status"}{"execute": "query-version"}')
b = answer()
verdict("status" in a["return"] and "qemu" in b["return"], "two commands in one piece", (a, b))
for name, text in (("no JSON", "}"), ("no object", "[1]"), ("no command", "{}"), ("arguments that are no object",
                   '{"execute": "quit", "arguments": 1}'), ("deep", "[" * 100), ("unknown", '{"execute": "fly"}')):
    a = command(text)
    verdict("error" in a, name, a)
lines.write('{"execute": "' + "x" * 70000)
lines.flush()
a = answer()
verdict("longer than" in a["error"]["desc"], "a command without end", a)
time.sleep(0.2)
lines.write("\n")
control.close()
lines.close()

control = connect(qmp_path)
lines = control.makefile("rw")
greeting = answer()
a = command('{"execute": "query-status"}')
verdict("QMP" in greeting and "error" in a, "the next client is greeted and has to negotiate", (greeting, a))
command('{"execute": "qmp_capabilities"}')
names = [c["name"] for c in command('{"execute": "query-commands"}')["return"]]
verdict("quit" in names and len(names) == len(set(names)), "query-commands", names)

line = connect(line_path)
line.sendall(b"hello")
got = b""
while len(got) < 5:
    got += line.recv(100)
verdict(got == b"hello", "a serial line on a socket", got)
a = command('{"execute": "system_reset"}')
b = answer()
verdict(a == {"return": {}} and b["event"] == "RESET" and b["data"] == {"guest": False, "reason": "host-qmp-system-reset"}, "system_reset", (a, b))
line.sendall(b"again")
got = b""
while len(got) < 5:
    got += line.recv(100)
verdict(got == b"again", "clients stay over a reset", got)
a = command('{"execute": "system_powerdown"}')
b = answer()
verdict("POWERDOWN" in (a.get("event"), b.get("event")), "system_powerdown", (a, b))
a = command('{"execute": "quit"}')
b = answer()
verdict(child.wait(10) == 0 and b["event"] == "SHUTDOWN" and b["data"]["reason"] == "host-qmp-quit" and not os.path.exists(qmp_path), "quit", (a, b))
