/*
 * A control socket that speaks QMP, QEMU's machine protocol: JSON objects, one command after the other, and events.
 *
 * What there is: qmp_capabilities, query-version, query-commands, query-status, query-name, query-uuid, query-cpus-fast,
 * system_powerdown, system_reset, quit, balloon, query-balloon, query-balloon-stats, inject-nmi; and two that QEMU does
 * not have: x-query-engine, and x-set-engine with "engine": the guest goes on under another engine. What there is not
 * answers CommandNotFound, as the protocol has it.
 *
 * Under vm->lock. Source: QEMU Machine Protocol Specification.
 */
#ifndef RINGSIDE_QMP_H
#define RINGSIDE_QMP_H

#include <stdbool.h>
#include <stddef.h>

struct vm;
struct qmp;

/* Listens at `spec`, "unix:PATH" or "tcp:..." of chardev.h. NULL: one line for the user in error. */
struct qmp *qmp_new(struct vm *vm, const char *spec, char *error, size_t size);
void qmp_free(struct qmp *q);
/* Tells the client, if there is one: "SHUTDOWN", "RESET", "POWERDOWN", ... `data`: JSON text of an object, or NULL. */
void qmp_event(struct qmp *q, const char *name, const char *data);
/* The machine has ended (vm->end): RESET when it goes on after that, else SHUTDOWN, with who asked for it. */
void qmp_tell_end(struct qmp *q, bool again);

#endif
