/*
 * virtio console with several ports. See console.h.
 *
 * Port 0 is the first console, which drivers know that have never heard of several ports; when there are named ports
 * only, port 0 is absent. Input waits in the back end while the guest has no buffer for it, or has not opened the port;
 * output waits in the guest's buffer while the back end takes none. Control messages to the guest are bits of each port
 * until it has a buffer for them, so there is no queue that could grow.
 *
 * Under vm->lock, on the I/O thread but for resets. Source: Virtual I/O Device (VIRTIO) Version 1.2, section 5.3.
 */
#include "virtio/console.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "ui/chardev.h"
#include "util/log.h"
#include "virtio/virtio.h"

#define QUEUE_SIZE 128
#define OUTPUT_BATCH 4096u
#define OUTPUT_A_TURN (1u << 20) /* bytes of one port before the rest of the machine has its turn */
#define INPUT_CHAINS 64 /* for one piece of input, at most */

#define F_MULTIPORT (1ull << 1)
#define F_EMERG_WRITE (1ull << 2)

enum { QUEUE_CONTROL_IN = 2, QUEUE_CONTROL_OUT = 3 };

enum event { DEVICE_READY, DEVICE_ADD, DEVICE_REMOVE, PORT_READY, CONSOLE_PORT, RESIZE, PORT_OPEN, PORT_NAME };

struct control {
	uint32_t id;
	uint16_t event, value;
};

struct config {
	uint16_t cols, rows;
	uint32_t max_nr_ports, emerg_wr;
};

struct port {
	struct virtio_console *console;
	unsigned id;
	struct chardev *chardev; /* NULL: absent */
	const char *name;
	bool guest_open;
	unsigned to_say; /* a bit for each event that the guest is still to be told */
	struct virtqueue_chain *out; /* output that the back end has not taken all of */
	size_t out_done;
};

struct virtio_console {
	struct virtio_device *device;
	unsigned ports; /* numbers 0..ports-1, absent ones too */
	struct port port[VIRTIO_CONSOLE_PORTS + 1];
};

static unsigned input_queue(unsigned port) { return port ? 2 * port + 2 : 0; }
static bool is_output_queue(unsigned queue) { return queue & 1; }

static unsigned port_of_queue(unsigned queue) { return queue < 2 ? 0 : queue / 2 - 1; }

/* ---- control messages ---- */

static uint16_t value_of(const struct port *p, enum event event)
{
	return event == PORT_OPEN ? chardev_connected(p->chardev) : 1;
}

/* False: the guest has no buffer. */
static bool say(struct port *p, enum event event)
{
	struct virtqueue *q = virtio_queue(p->console->device, QUEUE_CONTROL_IN);
	struct virtqueue_chain *c = virtqueue_get(q);
	const struct control message = {.id = p->id, .event = (uint16_t)event, .value = value_of(p, event)};

	if (!c)
		return false;
	size_t n = virtio_copy_in(c, 0, &message, sizeof message);
	if (event == PORT_NAME)
		n += virtio_copy_in(c, n, p->name, strlen(p->name));
	virtqueue_put(q, c, (uint32_t)n);
	return true;
}

static void say_all(struct virtio_console *s)
{
	static const enum event order[] = {DEVICE_ADD, CONSOLE_PORT, PORT_NAME, PORT_OPEN};

	if (!virtio_has(s->device, F_MULTIPORT))
		return;
	for (unsigned i = 0; i < s->ports; i++)
		for (unsigned e = 0; e < sizeof order / sizeof order[0]; e++) {
			if (!(s->port[i].to_say & 1u << order[e]))
				continue;
			if (!say(&s->port[i], order[e]))
				goto out;
			s->port[i].to_say &= ~(1u << order[e]);
		}
out:
	virtqueue_interrupt(virtio_queue(s->device, QUEUE_CONTROL_IN));
}

static void hear(struct virtio_console *s, const struct control *m)
{
	struct port *p = m->id < s->ports && s->port[m->id].chardev ? &s->port[m->id] : NULL;

	LOG(LOG_VIRTIO, "virtio-console: event %u of port %u, %u", m->event, m->id, m->value);
	if (m->event == DEVICE_READY && m->value) {
		for (unsigned i = 0; i < s->ports; i++)
			if (s->port[i].chardev)
				s->port[i].to_say |= 1u << DEVICE_ADD;
	} else if (p && m->event == PORT_READY && m->value) {
		p->to_say |= (p->name ? 1u << PORT_NAME : 1u << CONSOLE_PORT) |
			     (chardev_connected(p->chardev) ? 1u << PORT_OPEN : 0);
	} else if (p && m->event == PORT_OPEN) {
		p->guest_open = m->value;
	}
}

static void control_output(struct virtio_console *s, struct virtqueue *q)
{
	struct virtqueue_chain *c;
	struct control m;

	while ((c = virtqueue_get(q)) != NULL) {
		if (virtio_copy_out(c, 0, &m, sizeof m) == sizeof m)
			hear(s, &m);
		virtqueue_put(q, c, 0);
	}
	virtqueue_interrupt(q);
	say_all(s);
}

/* ---- the guest's output ---- */

/* At most *left bytes, about. False: not all of it; the back end takes no more now, and will call output_ready, or *left
 * is 0. */
static bool write_chain(struct port *p, size_t *left)
{
	uint8_t buf[OUTPUT_BATCH];
	size_t n;

	while ((n = virtio_copy_out(p->out, p->out_done, buf, sizeof buf)) > 0) {
		if (!*left)
			return false;
		size_t taken = p->chardev ? chardev_write(p->chardev, buf, n) : n;

		p->out_done += taken;
		*left -= taken < *left ? taken : *left;
		if (taken < n)
			return false;
	}
	return true;
}

static void port_output(struct port *p)
{
	struct virtqueue *q = virtio_queue(p->console->device, input_queue(p->id) + 1);
	size_t left = OUTPUT_A_TURN;

	for (;;) {
		if (!p->out) {
			p->out = virtqueue_get(q);
			p->out_done = 0;
		}
		if (!p->out || !write_chain(p, &left))
			break;
		virtqueue_put(q, p->out, 0);
		p->out = NULL;
	}
	if (!left)
		virtqueue_notify_again(q);
	virtqueue_interrupt(q);
}

static void output_ready(void *opaque) { port_output(opaque); }

/* ---- the guest's input ---- */

static size_t receive(void *opaque, const uint8_t *data, size_t len)
{
	struct port *p = opaque;
	struct virtqueue *q = virtio_queue(p->console->device, input_queue(p->id));
	struct virtqueue_chain *c;
	size_t done = 0;

	if (virtio_has(p->console->device, F_MULTIPORT) && !p->guest_open)
		return 0;
	for (unsigned i = 0; i < INPUT_CHAINS && done < len && (c = virtqueue_get(q)) != NULL; i++) {
		size_t n = virtio_copy_in(c, 0, data + done, len - done);

		virtqueue_put(q, c, (uint32_t)n);
		done += n;
	}
	virtqueue_interrupt(q);
	return done;
}

static void connected(void *opaque, bool open)
{
	struct port *p = opaque;

	(void)open; /* what is said is how it is when it is said */
	p->to_say |= 1u << PORT_OPEN;
	say_all(p->console);
}

static const struct chardev_ops chardev_ops = {.receive = receive, .output_ready = output_ready, .connected = connected};

/* ---- device ---- */

static uint64_t console_features(void *opaque)
{
	(void)opaque;
	return F_MULTIPORT | F_EMERG_WRITE;
}

static void console_notify(void *opaque, unsigned queue)
{
	struct virtio_console *s = opaque;

	if (queue == QUEUE_CONTROL_IN)
		say_all(s);
	else if (queue == QUEUE_CONTROL_OUT)
		control_output(s, virtio_queue(s->device, queue));
	else if (is_output_queue(queue))
		port_output(&s->port[port_of_queue(queue)]);
	/* A buffer for input: the back end offers again what waits, as this is a turn of the loop. */
}

static void forget_output(struct port *p)
{
	if (p->out)
		virtqueue_forget(virtio_queue(p->console->device, input_queue(p->id) + 1), p->out);
	p->out = NULL;
}

static void console_reset(void *opaque)
{
	struct virtio_console *s = opaque;

	for (unsigned i = 0; i < s->ports; i++) {
		forget_output(&s->port[i]);
		s->port[i].guest_open = false;
		s->port[i].to_say = 0;
	}
}

static void console_queue_reset(void *opaque, unsigned queue)
{
	struct virtio_console *s = opaque;

	if (is_output_queue(queue) && queue != QUEUE_CONTROL_OUT)
		forget_output(&s->port[port_of_queue(queue)]);
}

static void config_read(void *opaque, unsigned offset, void *buf, unsigned len)
{
	const struct virtio_console *s = opaque;
	const struct config config = {.max_nr_ports = s->ports};

	memcpy(buf, (const uint8_t *)&config + offset, len);
}

/* Emergency writes: a character to the console before there are queues. */
static void config_write(void *opaque, unsigned offset, const void *buf, unsigned len)
{
	struct virtio_console *s = opaque;

	if (len && offset == offsetof(struct config, emerg_wr) && s->port[0].chardev)
		chardev_write(s->port[0].chardev, buf, 1);
}

static const struct virtio_ops console_ops = {
	.name = "virtio-console",
	.id = VIRTIO_ID_CONSOLE,
	.class_code = 0x078000,
	.features = console_features,
	.notify = console_notify,
	.reset = console_reset,
	.queue_reset = console_queue_reset,
	.config_read = config_read,
	.config_write = config_write,
	.config_size = sizeof(struct config),
};

/* ---- life ---- */

/* The first console is port 0, the others follow in their order. */
static void number_ports(struct virtio_console *s, const struct virtio_console_port *ports, unsigned count)
{
	unsigned next = 1;
	bool console = false;

	for (unsigned i = 0; i < count; i++) {
		unsigned id = !console && !ports[i].name ? 0 : next++;

		console |= id == 0;
		s->port[id].chardev = ports[i].chardev;
		s->port[id].name = ports[i].name;
	}
	s->ports = next;
	for (unsigned i = 0; i < s->ports; i++) {
		s->port[i].console = s;
		s->port[i].id = i;
	}
}

struct virtio_console *virtio_console_new(struct pci_bus *pci, struct loop *loop, const struct virtio_console_port *ports,
					  unsigned count)
{
	struct virtio_console *s;

	if (count > VIRTIO_CONSOLE_PORTS) {
		errno = EINVAL;
		return NULL;
	}
	if (!(s = calloc(1, sizeof *s)))
		return NULL;
	number_ports(s, ports, count);
	const struct virtio_config config = {.pci = pci, .devfn = -1, .loop = loop, .ops = &console_ops, .opaque = s,
					     .queues = 2 * s->ports + 2, .queue_size = QUEUE_SIZE};
	s->device = virtio_new(&config);
	if (!s->device) {
		free(s);
		return NULL;
	}
	for (unsigned i = 0; i < s->ports; i++)
		if (s->port[i].chardev)
			chardev_attach(s->port[i].chardev, &chardev_ops, &s->port[i]);
	return s;
}

void virtio_console_free(struct virtio_console *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < s->ports; i++)
		if (s->port[i].chardev)
			chardev_attach(s->port[i].chardev, NULL, NULL);
	virtio_free(s->device);
	free(s);
}
