/*
 * Places where a guest's write only rings: the engine may ring for it, and the vCPU goes on (struct engine.bells).
 *
 * Under vm->lock.
 */
#ifndef RINGSIDE_BELLS_H
#define RINGSIDE_BELLS_H

struct vm;

/* The engine, or where devices are, has changed: tells the engine of all bells. And again whenever regions of the
 * buses come and go, until bells_off. Nothing if the engine rings none. */
void bells_on(struct vm *vm);
void bells_off(struct vm *vm);

#endif
