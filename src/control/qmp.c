/*
 * The control socket. See qmp.h.
 *
 * A client is greeted, has to negotiate capabilities (there are none) and may then give commands. Input is parsed
 * as it comes; a command of more than COMMAND_MAX bytes or DEPTH_MAX levels is an error, and what follows is read anew.
 * Nobody waits for a client that does not read: its next command is not obeyed until it has read all answers, and events
 * wait for it, up to OUT_MAX bytes. Then it is sent away.
 */
#include "control/qmp.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "dev/pm.h"
#include "machine/pc.h"
#include "machine/vm.h"
#include "ui/chardev.h"
#include "util/log.h"
#include "util/loop.h"
#include "virtio/balloon.h"

#define COMMAND_MAX 65536u
#define DEPTH_MAX 32
#define OUT_MAX (1u << 20)

struct qmp {
	struct vm *vm;
	struct chardev *chardev;
	struct json_tokener *tokener;
	size_t command_len; /* bytes of the command that is being read */
	bool negotiated;
	bool asked; /* the machine's end or reset is what a command asked for */
	uint8_t *out; /* waits for the client to read: [0, out_len) */
	size_t out_len;
};

/* ---- answers ---- */

static void forget_output(struct qmp *q)
{
	free(q->out);
	q->out = NULL;
	q->out_len = 0;
}

/* May find that the client has gone, and forget it all. */
static void flush(struct qmp *q)
{
	size_t n = q->out_len ? chardev_write(q->chardev, q->out, q->out_len) : 0;

	if (n >= q->out_len) {
		forget_output(q);
		return;
	}
	q->out_len -= n;
	memmove(q->out, q->out + n, q->out_len);
	loop_wake(q->vm->loop);
}

/* Takes the object. */
static void send_object(struct qmp *q, struct json_object *o)
{
	const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);
	size_t len = strlen(text);
	uint8_t *out = q->out_len + len + 2 <= OUT_MAX ? realloc(q->out, q->out_len + len + 2) : NULL;

	if (out) {
		memcpy(out + q->out_len, text, len);
		memcpy(out + q->out_len + len, "\r\n", 2);
		q->out = out;
		q->out_len += len + 2;
	}
	json_object_put(o);
	if (out)
		flush(q);
	else
		chardev_disconnect(q->chardev);
}

static void send_error(struct qmp *q, struct json_object *id, const char *class, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
static void send_error(struct qmp *q, struct json_object *id, const char *class, const char *fmt, ...)
{
	struct json_object *answer = json_object_new_object(), *error = json_object_new_object();
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	json_object_object_add(error, "class", json_object_new_string(class));
	json_object_object_add(error, "desc", json_object_new_string(text));
	json_object_object_add(answer, "error", error);
	if (id)
		json_object_object_add(answer, "id", json_object_get(id));
	send_object(q, answer);
}

static struct json_object *version(void)
{
	struct json_object *o = json_object_new_object(), *numbers = json_object_new_object();

	/* Clients look for the protocol of this version of QEMU; the package says who answers. */
	json_object_object_add(numbers, "major", json_object_new_int(7));
	json_object_object_add(numbers, "minor", json_object_new_int(2));
	json_object_object_add(numbers, "micro", json_object_new_int(0));
	json_object_object_add(o, "qemu", numbers);
	json_object_object_add(o, "package", json_object_new_string("Ringside"));
	return o;
}

static void greet(struct qmp *q)
{
	struct json_object *greeting = json_object_new_object(), *qmp = json_object_new_object();

	json_object_object_add(qmp, "version", version());
	json_object_object_add(qmp, "capabilities", json_object_new_array());
	json_object_object_add(greeting, "QMP", qmp);
	send_object(q, greeting);
}

void qmp_event(struct qmp *q, const char *name, const char *data)
{
	struct json_object *event, *stamp;
	struct timespec now;

	if (!q->negotiated)
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	event = json_object_new_object();
	stamp = json_object_new_object();
	json_object_object_add(stamp, "seconds", json_object_new_int64(now.tv_sec));
	json_object_object_add(stamp, "microseconds", json_object_new_int64(now.tv_nsec / 1000));
	json_object_object_add(event, "timestamp", stamp);
	json_object_object_add(event, "event", json_object_new_string(name));
	if (data)
		json_object_object_add(event, "data", json_tokener_parse(data));
	send_object(q, event);
}

/* What QEMU calls the cause. */
static const char *cause(const struct qmp *q, bool *guest)
{
	*guest = false;
	switch (q->vm->end) {
	case VM_RESET:
	case VM_TRIPLE_FAULT:
		*guest = !q->asked;
		return q->asked ? "host-qmp-system-reset" : "guest-reset";
	case VM_QUIT:
		return q->asked ? "host-qmp-quit" : "host-signal";
	case VM_POWER_OFF:
	case VM_DEBUG_EXIT:
		*guest = true;
		return "guest-shutdown";
	case VM_OUTPUT_CLOSED:
	case VM_ERROR:
	case VM_RUNNING:
		break;
	}
	return "host-error";
}

void qmp_tell_end(struct qmp *q, bool again)
{
	char data[96];
	bool guest;
	const char *reason = cause(q, &guest);

	snprintf(data, sizeof data, "{\"guest\": %s, \"reason\": \"%s\"}", guest ? "true" : "false", reason);
	qmp_event(q, again ? "RESET" : "SHUTDOWN", data);
	if (!again) { /* nobody turns the loop any more */
		chardev_write_all(q->chardev, q->out, q->out_len);
		forget_output(q);
	}
	q->asked = false;
}

/* ---- commands ---- */

/* A command: what it returns (NULL: an empty object), or *error is set to one line. `arguments` may be NULL. */
struct command {
	const char *name;
	struct json_object *(*run)(struct qmp *q, struct json_object *arguments, const char **error);
};

static struct json_object *run_capabilities(struct qmp *q, struct json_object *a, const char **error)
{
	(void)a;
	(void)error;
	q->negotiated = true;
	return NULL;
}

static struct json_object *run_version(struct qmp *q, struct json_object *a, const char **error)
{
	(void)q;
	(void)a;
	(void)error;
	return version();
}

static struct json_object *run_status(struct qmp *q, struct json_object *a, const char **error)
{
	struct json_object *o = json_object_new_object();
	bool running = q->vm->end == VM_RUNNING;

	(void)a;
	(void)error;
	json_object_object_add(o, "status", json_object_new_string(running ? "running" : "shutdown"));
	json_object_object_add(o, "singlestep", json_object_new_boolean(false));
	json_object_object_add(o, "running", json_object_new_boolean(running));
	return o;
}

static struct json_object *run_name(struct qmp *q, struct json_object *a, const char **error)
{
	(void)q;
	(void)a;
	(void)error;
	return json_object_new_object(); /* it has none */
}

static struct json_object *run_uuid(struct qmp *q, struct json_object *a, const char **error)
{
	struct json_object *o = json_object_new_object();

	(void)q;
	(void)a;
	(void)error;
	json_object_object_add(o, "UUID", json_object_new_string("00000000-0000-0000-0000-000000000000"));
	return o;
}

static struct json_object *run_cpus(struct qmp *q, struct json_object *a, const char **error)
{
	struct json_object *list = json_object_new_array();

	(void)a;
	(void)error;
	for (unsigned i = 0; i < q->vm->vcpu_count; i++) {
		struct json_object *o = json_object_new_object();

		json_object_object_add(o, "cpu-index", json_object_new_int((int)i));
		json_object_object_add(o, "target", json_object_new_string("x86_64"));
		json_object_array_add(list, o);
	}
	return list;
}

static void stop(struct qmp *q, enum vm_end end)
{
	q->asked |= q->vm->end == VM_RUNNING;
	vm_stop(q->vm, end);
}

static struct json_object *run_powerdown(struct qmp *q, struct json_object *a, const char **error)
{
	(void)a;
	(void)error;
	pm_power_button(q->vm->pc->pm);
	qmp_event(q, "POWERDOWN", NULL);
	return NULL;
}

static struct json_object *run_reset(struct qmp *q, struct json_object *a, const char **error)
{
	(void)a;
	(void)error;
	stop(q, VM_RESET);
	return NULL;
}

static struct json_object *run_quit(struct qmp *q, struct json_object *a, const char **error)
{
	(void)a;
	(void)error;
	stop(q, VM_QUIT);
	return NULL;
}

static struct json_object *run_nmi(struct qmp *q, struct json_object *a, const char **error)
{
	(void)a;
	(void)error;
	for (unsigned i = 0; i < q->vm->vcpu_count; i++) {
		q->vm->vcpu[i]->nmi_pending = true;
		vcpu_kick(q->vm->vcpu[i]);
	}
	return NULL;
}

static struct json_object *run_engine(struct qmp *q, struct json_object *a, const char **error)
{
	struct json_object *o = json_object_new_object(), *list = json_object_new_array();

	(void)a;
	(void)error;
	for (unsigned i = 0; engines[i]; i++)
		json_object_array_add(list, json_object_new_string(engines[i]->name));
	json_object_object_add(o, "engine", json_object_new_string(q->vm->config.engine->name));
	json_object_object_add(o, "engines", list);
	json_object_object_add(o, "moves", json_object_new_int64(q->vm->moves));
	return o;
}

static struct json_object *run_set_engine(struct qmp *q, struct json_object *a, const char **error)
{
	struct json_object *name = a ? json_object_object_get(a, "engine") : NULL;
	const struct engine *engine = name ? engine_find(json_object_get_string(name)) : NULL;

	if (!engine)
		*error = "'engine' is wanted: the name of an engine";
	else
		vm_move(q->vm, engine, error);
	return NULL;
}

static struct json_object *run_balloon(struct qmp *q, struct json_object *a, const char **error)
{
	struct json_object *value = a ? json_object_object_get(a, "value") : NULL;

	if (!value || !json_object_is_type(value, json_type_int) || json_object_get_int64(value) <= 0)
		*error = "'value' is wanted: bytes that the guest is to keep";
	else if (devices_set_balloon(q->vm, (uint64_t)json_object_get_int64(value)) < 0)
		*error = "the guest has no balloon: --balloon";
	return NULL;
}

static struct json_object *run_query_balloon(struct qmp *q, struct json_object *a, const char **error)
{
	struct virtio_balloon *balloon = q->vm->devices.balloon;
	struct json_object *o;

	(void)a;
	if (!balloon) {
		*error = "the guest has no balloon: --balloon";
		return NULL;
	}
	o = json_object_new_object();
	json_object_object_add(o, "actual", json_object_new_int64(
			       (int64_t)(q->vm->config.memory_size - virtio_balloon_size(balloon))));
	return o;
}

/* What the guest said last; asks it for newer figures. Their names are those of QEMU's property guest-stats. */
static struct json_object *run_query_balloon_stats(struct qmp *q, struct json_object *a, const char **error)
{
	static const char *const name[BALLOON_STATISTICS] = {
		"stat-swap-in", "stat-swap-out", "stat-major-faults", "stat-minor-faults", "stat-free-memory",
		"stat-total-memory", "stat-available-memory", "stat-disk-caches", "stat-htlb-pgalloc", "stat-htlb-pgfail"};
	struct virtio_balloon *balloon = q->vm->devices.balloon;
	uint64_t value[BALLOON_STATISTICS];
	struct json_object *o;

	(void)a;
	if (!balloon) {
		*error = "the guest has no balloon: --balloon";
		return NULL;
	}
	o = json_object_new_object();
	virtio_balloon_statistics(balloon, value);
	for (unsigned i = 0; i < BALLOON_STATISTICS; i++)
		if (value[i] != BALLOON_UNKNOWN)
			json_object_object_add(o, name[i], json_object_new_int64((int64_t)value[i]));
	return o;
}

static struct json_object *run_commands(struct qmp *q, struct json_object *a, const char **error);

static const struct command commands[] = {
	{"qmp_capabilities", run_capabilities},
	{"query-version", run_version},
	{"query-commands", run_commands},
	{"query-status", run_status},
	{"query-name", run_name},
	{"query-uuid", run_uuid},
	{"query-cpus-fast", run_cpus},
	{"system_powerdown", run_powerdown},
	{"system_reset", run_reset},
	{"quit", run_quit},
	{"inject-nmi", run_nmi},
	{"x-query-engine", run_engine},
	{"x-set-engine", run_set_engine},
	{"balloon", run_balloon},
	{"query-balloon", run_query_balloon},
	{"query-balloon-stats", run_query_balloon_stats},
};
#define COMMANDS (sizeof commands / sizeof commands[0])

static struct json_object *run_commands(struct qmp *q, struct json_object *a, const char **error)
{
	struct json_object *list = json_object_new_array();

	(void)q;
	(void)a;
	(void)error;
	for (unsigned i = 0; i < COMMANDS; i++) {
		struct json_object *o = json_object_new_object();

		json_object_object_add(o, "name", json_object_new_string(commands[i].name));
		json_object_array_add(list, o);
	}
	return list;
}

static const struct command *find_command(const char *name)
{
	for (unsigned i = 0; i < COMMANDS; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static void obey(struct qmp *q, struct json_object *o)
{
	struct json_object *name, *arguments = NULL, *id = NULL, *answer, *value;
	const struct command *command;
	const char *error = NULL;

	if (!json_object_is_type(o, json_type_object)) {
		send_error(q, NULL, "GenericError", "QMP input must be a JSON object");
		return;
	}
	json_object_object_get_ex(o, "id", &id);
	if (!json_object_object_get_ex(o, "execute", &name) || !json_object_is_type(name, json_type_string)) {
		send_error(q, id, "GenericError", "QMP input lacks member 'execute'");
		return;
	}
	if (json_object_object_get_ex(o, "arguments", &arguments) && !json_object_is_type(arguments, json_type_object)) {
		send_error(q, id, "GenericError", "QMP input member 'arguments' must be an object");
		return;
	}
	command = find_command(json_object_get_string(name));
	if (!q->negotiated && command && command->run != run_capabilities) {
		send_error(q, id, "CommandNotFound", "Expecting capabilities negotiation with 'qmp_capabilities'");
		return;
	}
	if (!command) {
		send_error(q, id, "CommandNotFound", "The command %.64s has not been found",
			   json_object_get_string(name));
		return;
	}
	LOG(LOG_QMP, "%s", command->name);
	value = command->run(q, arguments, &error);
	if (error) {
		json_object_put(value);
		send_error(q, id, "GenericError", "%s", error);
		return;
	}
	answer = json_object_new_object();
	json_object_object_add(answer, "return", value ? value : json_object_new_object());
	if (id)
		json_object_object_add(answer, "id", json_object_get(id));
	send_object(q, answer);
}

/* ---- the line ---- */

static void start_anew(struct qmp *q)
{
	json_tokener_reset(q->tokener);
	q->command_len = 0;
}

/* Parses one piece of input, up to the end of a command: how many bytes that was. */
static size_t parse(struct qmp *q, const uint8_t *data, size_t len)
{
	struct json_object *o = json_tokener_parse_ex(q->tokener, (const char *)data, (int)len);
	enum json_tokener_error e = json_tokener_get_error(q->tokener);
	size_t used = json_tokener_get_parse_end(q->tokener);

	q->command_len += used;
	if (e == json_tokener_success) {
		start_anew(q);
		if (o)
			obey(q, o);
		json_object_put(o);
	} else if (e != json_tokener_continue) {
		start_anew(q);
		send_error(q, NULL, "GenericError", "Invalid JSON syntax");
		return len; /* the rest of what came with it cannot be trusted to begin a command */
	} else if (q->command_len > COMMAND_MAX) {
		start_anew(q);
		send_error(q, NULL, "GenericError", "a command is longer than %u bytes", COMMAND_MAX);
	}
	return used ? used : len;
}

static size_t receive(void *opaque, const uint8_t *data, size_t len)
{
	struct qmp *q = opaque;

	size_t done = 0;

	while (done < len && q->out_len == 0 && chardev_connected(q->chardev)) {
		/* White space between commands belongs to none. */
		if (q->command_len == 0 && strchr(" \t\r\n", data[done])) {
			done++;
			continue;
		}
		done += parse(q, data + done, len - done);
	}
	return done;
}

static void output_ready(void *opaque) { flush(opaque); }

static void connected(void *opaque, bool open)
{
	struct qmp *q = opaque;

	q->negotiated = false;
	start_anew(q);
	forget_output(q);
	if (open)
		greet(q);
}

static const struct chardev_ops chardev_ops = {receive, output_ready, connected};

struct qmp *qmp_new(struct vm *vm, const char *spec, char *error, size_t size)
{
	struct qmp *q = calloc(1, sizeof *q);

	if (!q || !(q->tokener = json_tokener_new_ex(DEPTH_MAX))) {
		snprintf(error, size, "%s", strerror(ENOMEM));
		free(q);
		return NULL;
	}
	q->vm = vm;
	q->chardev = chardev_new(vm->loop, spec, error, size);
	if (!q->chardev) {
		json_tokener_free(q->tokener);
		free(q);
		return NULL;
	}
	chardev_attach(q->chardev, &chardev_ops, q);
	return q;
}

void qmp_free(struct qmp *q)
{
	chardev_free(q->chardev);
	forget_output(q);
	json_tokener_free(q->tokener);
	free(q);
}
