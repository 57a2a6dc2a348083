/*
 * --vga, --input, --screen and --vnc to a struct screen_config. Main thread.
 */
#include "cmd/option_screen.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cmd/options.h"
#include "machine/backends.h"
#include "ui/address.h"
#include "util/keyval.h"

int option_vga(struct backends_config *c, const char *value)
{
	if (strcmp(value, "std") == 0)
		c->screen.vga = SCREEN_VGA_STD;
	else if (strcmp(value, "none") == 0)
		c->screen.vga = SCREEN_VGA_NONE;
	else
		return option_bad("--vga %s: unknown adapter; there are: std, none", value);
	return 0;
}

int option_input(struct backends_config *c, const char *value)
{
	c->screen.input_given = true;
	if (strcmp(value, "none") == 0)
		c->screen.input = 0;
	else if (strcmp(value, "tablet") == 0)
		c->screen.input |= SCREEN_TABLET;
	else if (strcmp(value, "keyboard") == 0)
		c->screen.input |= SCREEN_KEYBOARD;
	else
		return option_bad("--input %s: unknown device; there are: tablet, keyboard, none", value);
	return 0;
}

int option_screen(struct backends_config *c, const char *value)
{
	if (strcmp(value, "text") == 0)
		c->screen.text = true;
	else
		return option_bad("--screen %s: unknown kind; there is: text", value);
	return 0;
}

static int take_vnc(struct vnc_config *vnc, struct keyval *kv, const char *value)
{
	const char *password = keyval_take(kv, "password-file"), *left = keyval_left(kv);
	struct address address;

	if (left)
		return option_bad("--vnc %s: unknown key '%s'; there is: password-file=FILE", value, left);
	int r = address_parse(&address, kv->first);
	if (r == -ENAMETOOLONG || strlen(kv->first) >= VNC_ADDRESS_MAX)
		return option_bad("--vnc %s: the path is too long for a socket", value);
	if (r < 0)
		return option_bad("--vnc %s: an address like :0, 127.0.0.1:0 or unix:PATH is wanted", value);
	if (vnc->addresses == VNC_ADDRESSES)
		return option_bad("--vnc: %u addresses at most", VNC_ADDRESSES);
	if (password && (!*password || strlen(password) >= VNC_ADDRESS_MAX))
		return option_bad("--vnc %s: password-file wants the path of a file", value);
	strcpy(vnc->address[vnc->addresses++], kv->first);
	if (password)
		strcpy(vnc->password_file, password);
	return 0;
}

int option_vnc(struct backends_config *c, const char *value)
{
	struct keyval kv;
	const char *wrong;
	int r = keyval_split(&kv, value, &wrong);

	if (r == 0)
		r = take_vnc(&c->screen.vnc, &kv, value);
	else
		option_bad("--vnc %s: %s", value, r == -EINVAL ? "a key twice, or none" : strerror(-r));
	keyval_free(&kv);
	return r < 0 ? -EINVAL : 0;
}

int option_screen_check(const struct backends_config *c)
{
	if (c->screen.vga == SCREEN_VGA_NONE && (c->screen.vnc.addresses || c->screen.text))
		return option_bad("--vga none: there is no screen that --%s could show", c->screen.text ? "screen" : "vnc");
	for (unsigned i = 0; i < SERIAL_PORTS; i++)
		if (c->screen.text && c->serial[i] && strcmp(c->serial[i], "stdio") == 0)
			return option_bad("--serial stdio: the terminal shows the screen; a line could be --serial pty");
	return 0;
}
