# A QMP client. As a program: qmp_client.py SOCKET COMMAND [JSON-ARGUMENTS] prints what is returned; status 1: an error.
import json, socket, sys, time


def connect(path):
    """A socket, when somebody listens at the path."""
    for _ in range(2400):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(120)
        try:
            s.connect(path)
            return s
        except OSError:
            s.close()
            time.sleep(0.05)
    sys.exit("no socket at " + path)


class Client:
    """Lines of JSON, each read and written as it is: what is right is the caller's business."""

    def __init__(self, path):
        self.socket = connect(path)
        self.lines = self.socket.makefile("rw")
        self.greeting = self.answer()

    def answer(self):
        return json.loads(self.lines.readline())

    def send(self, text):
        self.lines.write(text)
        self.lines.flush()

    def ask(self, text):
        self.send(text)
        return self.answer()

    def command(self, name, arguments={}):
        """What is answered, events left out."""
        self.send(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        while "event" in (answer := self.answer()):
            pass
        return answer

    def close(self):
        self.socket.close()
        self.lines.close()


if __name__ == "__main__":
    client = Client(sys.argv[1])
    client.command("qmp_capabilities")
    answer = client.command(sys.argv[2], json.loads(sys.argv[3]) if len(sys.argv) > 3 else {})
    print(json.dumps(answer.get("return", answer)))
    sys.exit("error" in answer)
