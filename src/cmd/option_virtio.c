/*
 * --console LINE[,name=NAME]
 * --share DIR[:TAG][:ro]
 * --vsock PATH[,cid=N]
 *
 * Main thread, before anything is started.
 */
#include "cmd/option_virtio.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/options.h"
#include "ui/chardev.h"
#include "util/keyval.h"
#include "virtio/vsock.h"

#define PORT_NAME_MAX 64u
#define SHARE_TAG_MAX 31u /* what Linux has room for */

/* The words of an option's value; 0 or -EINVAL, said so. */
static int split(struct keyval *kv, const char *option, const char *value)
{
	const char *word;

	switch (keyval_split(kv, value, &word)) {
	case 0:
		return 0;
	case -ENOMEM:
		return option_bad("%s: out of memory", option);
	default:
		return option_bad("%s %s: '%s' is twice there or not a KEY=VALUE", option, value, word);
	}
}

static bool is_port_name(const char *s)
{
	size_t len = strlen(s);

	/* It becomes a file's name in the guest. */
	for (size_t i = 0; i < len; i++)
		if (s[i] <= 0x20 || s[i] > 0x7e || s[i] == '/')
			return false;
	return len && len <= PORT_NAME_MAX;
}

bool option_stdio_is_taken(const struct backends_config *b)
{
	for (unsigned i = 0; i < SERIAL_PORTS; i++)
		if (b->serial[i] && strcmp(b->serial[i], "stdio") == 0)
			return true;
	for (unsigned i = 0; i < b->consoles; i++)
		if (strcmp(b->console[i].line, "stdio") == 0)
			return true;
	return false;
}

static int parse_console(struct backends_config *b, struct console_config *c, struct keyval *kv, const char *value)
{
	const char *word;
	char error[256];

	if (split(kv, "--console", value) < 0)
		return -EINVAL;
	c->line = kv->first;
	if ((c->name = keyval_take(kv, "name")) != NULL && !is_port_name(c->name))
		return option_bad("--console %s: name=%s: 1 to %u printable ASCII characters without / are wanted", value,
				  c->name, PORT_NAME_MAX);
	if ((word = keyval_left(kv)) != NULL)
		return option_bad("--console %s: unknown word '%s'; there is: name", value, word);
	if (strcmp(c->line, "stdio") != 0)
		return chardev_check(c->line, error, sizeof error) < 0 ? option_bad("--console %s", error) : 0;
	if (option_stdio_is_taken(b))
		return option_bad("--console stdio: standard input is the line of one port only");
	b->no_serial = true; /* COM1 is not on it unless it is said */
	return 0;
}

int option_console(struct backends_config *b, const char *value)
{
	struct console_config c = {0};
	struct keyval kv = {0};

	if (b->consoles == VIRTIO_CONSOLE_PORTS)
		return option_bad("--console %s: more than %u ports", value, VIRTIO_CONSOLE_PORTS);
	int r = parse_console(b, &c, &kv, value);
	if (r < 0)
		keyval_free(&kv);
	else
		b->console[b->consoles++] = c; /* with the words of kv */
	return r;
}

/* What follows the last colon of `text`, cut off there; NULL: nothing, or the end of a path. */
static char *cut_word(char *text)
{
	char *colon = strrchr(text, ':');

	if (!colon || strchr(colon, '/'))
		return NULL;
	*colon = '\0';
	return colon + 1;
}

static int parse_share(const struct backends_config *b, struct share_config *c, char *copy, const char *value)
{
	char *word = cut_word(copy);

	if (word && strcmp(word, "ro") == 0) {
		c->readonly = true;
		word = cut_word(copy);
	}
	c->directory = copy;
	c->tag = word ? word : "share";
	if (!*copy)
		return option_bad("--share %s: a directory is wanted first", value);
	if (!is_port_name(c->tag) || strlen(c->tag) > SHARE_TAG_MAX)
		return option_bad("--share %s: a tag of 1 to %u printable ASCII characters without / is wanted", value,
				  SHARE_TAG_MAX);
	for (unsigned i = 0; i < b->shares; i++)
		if (strcmp(b->share[i].tag, c->tag) == 0)
			return option_bad("--share %s: the tag %s is taken; DIR:TAG gives another", value, c->tag);
	return 0;
}

int option_share(struct backends_config *b, const char *value)
{
	struct share_config c = {0};
	char *copy = strdup(value);

	if (!copy)
		return option_bad("--share: out of memory");
	int r = b->shares == SHARES_MAX ? option_bad("--share %s: more than %u", value, SHARES_MAX)
					: parse_share(b, &c, copy, value);
	if (r < 0)
		free(copy);
	else
		b->share[b->shares++] = c; /* with the words of the copy */
	return r;
}

static int parse_vsock(struct backends_config *b, struct keyval *kv, const char *value)
{
	const char *word;
	char *end;

	if (split(kv, "--vsock", value) < 0)
		return -EINVAL;
	if (!*kv->first || strlen(kv->first) > VSOCK_PATH_MAX)
		return option_bad("--vsock %s: a path of at most %u bytes is wanted first", value, VSOCK_PATH_MAX);
	b->vsock_cid = VSOCK_CID_GUEST_MIN;
	if ((word = keyval_take(kv, "cid")) != NULL) {
		unsigned long long n = strtoull(word, &end, 10);

		if (*word < '0' || *word > '9' || *end || n < VSOCK_CID_GUEST_MIN || n > VSOCK_CID_GUEST_MAX)
			return option_bad("--vsock %s: cid=%s: a number from %u to %u is wanted", value, word,
					  VSOCK_CID_GUEST_MIN, VSOCK_CID_GUEST_MAX);
		b->vsock_cid = (uint32_t)n;
	}
	if ((word = keyval_left(kv)) != NULL)
		return option_bad("--vsock %s: unknown word '%s'; there is: cid", value, word);
	return 0;
}

int option_vsock(struct backends_config *b, const char *value)
{
	struct keyval kv = {0};

	if (b->vsock)
		return option_bad("--vsock %s: there is one already", value);
	int r = parse_vsock(b, &kv, value);
	if (r < 0)
		keyval_free(&kv);
	else
		b->vsock = kv.first; /* with the words of kv */
	return r;
}
