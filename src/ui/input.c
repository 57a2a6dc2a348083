/*
 * From viewers to devices. See input.h. Under vm->lock.
 */
#include "ui/input.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct input {
	struct input_sink *sinks;
	bool down[INPUT_CODES];
	unsigned x, y; /* of the last place, in pixels */
	bool placed;
};

struct input *input_new(void) { return calloc(1, sizeof(struct input)); }
void input_free(struct input *in) { free(in); }

void input_attach(struct input *in, struct input_sink *sink)
{
	sink->next = in->sinks;
	in->sinks = sink;
}

void input_detach(struct input *in, struct input_sink *sink)
{
	for (struct input_sink **p = &in->sinks; *p; p = &(*p)->next)
		if (*p == sink) {
			*p = sink->next;
			return;
		}
}

static bool listens(const struct input_sink *s) { return !s->active || s->active(s->opaque); }

static struct input_sink *keyboard(struct input *in)
{
	for (struct input_sink *s = in->sinks; s; s = s->next)
		if (s->key && listens(s))
			return s;
	return NULL;
}

static struct input_sink *pointer(struct input *in)
{
	for (struct input_sink *s = in->sinks; s; s = s->next)
		if ((s->move || s->place) && listens(s))
			return s;
	return NULL;
}

void input_key(struct input *in, unsigned code, bool down)
{
	struct input_sink *s = keyboard(in);

	if (code >= INPUT_CODES || (!down && !in->down[code]))
		return;
	in->down[code] = down;
	if (s)
		s->key(s->opaque, code, down);
}

void input_release_all(struct input *in)
{
	for (unsigned code = 0; code < INPUT_CODES; code++)
		input_key(in, code, false);
}

bool input_is_down(const struct input *in, unsigned code) { return code < INPUT_CODES && in->down[code]; }

static unsigned scale(unsigned value, unsigned size)
{
	if (size < 2)
		return 0;
	return value >= size ? INPUT_POINTER_MAX : (unsigned)((uint64_t)value * INPUT_POINTER_MAX / (size - 1));
}

void input_pointer(struct input *in, unsigned x, unsigned y, unsigned width, unsigned height, int dz, unsigned buttons)
{
	struct input_sink *s = pointer(in);
	int dx = in->placed ? (int)(x - in->x) : 0, dy = in->placed ? (int)(y - in->y) : 0;

	in->x = x;
	in->y = y;
	in->placed = true;
	if (s && s->place)
		s->place(s->opaque, scale(x, width), scale(y, height), dz, buttons);
	else if (s)
		s->move(s->opaque, dx, dy, dz, buttons);
}
