/*
 * The host's side of a VM's screen. See screen.h.
 */
#include "machine/screen.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "machine/console.h"
#include "machine/vm.h"
#include "ui/display.h"
#include "ui/input.h"
#include "ui/terminal_screen.h"

bool screen_wanted(const struct screen_config *config)
{
	return config->vga == SCREEN_VGA_STD || (config->vga == SCREEN_VGA_DEFAULT && (config->vnc.addresses || config->text));
}

unsigned screen_input(const struct screen_config *config)
{
	return config->input_given ? config->input : screen_wanted(config) ? SCREEN_TABLET : 0;
}

bool screen_open(struct screen *s, struct vm *vm, char *error, size_t size)
{
	const struct screen_config *config = &vm->config.backends.screen;

	if (!(s->input = input_new()) || (screen_wanted(config) && !(s->display = display_new()))) {
		snprintf(error, size, "screen: %s", strerror(errno));
		return false;
	}
	if (config->text && !(s->terminal = terminal_screen_new(console_chardev(vm->console), vm->timers, s->display,
								s->input))) {
		snprintf(error, size, "screen: %s", strerror(errno));
		return false;
	}
	if (!config->vnc.addresses)
		return true;
	s->vnc = vnc_new(&config->vnc, &vm->lock, s->display, s->input, error, size);
	return s->vnc;
}

void screen_close(struct screen *s)
{
	vnc_free(s->vnc);
	terminal_screen_free(s->terminal);
	input_free(s->input);
	display_free(s->display);
}
