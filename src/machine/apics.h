/*
 * Where the local APICs are: here (irq/lapic.h), or with the engine, if it can have them (struct engine_apics).
 *
 * Under vm->lock, on any thread, while no vCPU is in the guest; apics_routes also while they are.
 */
#ifndef RINGSIDE_APICS_H
#define RINGSIDE_APICS_H

struct vm;

/* vm->engine_vm was just made: asks the engine to have the local APICs. vm->apics tells. 0 or -errno. */
int apics_begin(struct vm *vm);
/* The vCPUs and their local APICs are there: gives them to the engine, if it is to have them; takes them back before it is
 * left. 0 or -errno; when giving fails, they are here as they were; when taking fails, the state is lost. */
int apics_give(struct vm *vm);
int apics_take(struct vm *vm);
/* The I/O APIC's pins send something else: tells the engine. `opaque` is the struct pc. */
void apics_routes(void *opaque);

#endif
