/*
 * Splits option values into words. See keyval.h. Any thread; a struct keyval belongs to its caller.
 */
#include "util/keyval.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Ends the word at *p (in place, ",," made one comma) and moves *p behind it; NULL at the end of the text. */
static char *next_word(char **p)
{
	char *word = *p, *to = *p, *from = *p;

	if (!word)
		return NULL;
	for (; *from; from++) {
		if (*from == ',' && from[1] != ',')
			break;
		if (*from == ',')
			from++;
		*to++ = *from;
	}
	*p = *from ? from + 1 : NULL;
	*to = '\0';
	return word;
}

static int add(struct keyval *kv, char *word, const char **bad)
{
	char *equals = strchr(word, '=');

	*bad = word;
	if (*word == '\0' || equals == word)
		return -EINVAL;
	if (kv->count == KEYVAL_MAX)
		return -E2BIG;
	if (equals)
		*equals = '\0';
	for (unsigned i = 0; i < kv->count; i++)
		if (strcmp(kv->pair[i].key, word) == 0 && !(kv->repeats && strcmp(kv->repeats, word) == 0))
			return -EINVAL;
	kv->pair[kv->count].key = word;
	kv->pair[kv->count].value = equals ? equals + 1 : word + strlen(word);
	kv->pair[kv->count++].has_value = equals != NULL;
	return 0;
}

static int split(struct keyval *kv, const char *text, bool first_is_pair, const char *repeats, const char **bad)
{
	char *p, *word;
	int r;

	*kv = (struct keyval){.repeats = repeats};
	*bad = "";
	p = kv->copy = strdup(text);
	if (!p)
		return -ENOMEM;
	if (!first_is_pair)
		kv->first = next_word(&p);
	while ((word = next_word(&p)) != NULL)
		if ((r = add(kv, word, bad)) < 0)
			return r;
	return 0;
}

int keyval_split(struct keyval *kv, const char *text, const char **bad) { return split(kv, text, false, NULL, bad); }
int keyval_split_pairs(struct keyval *kv, const char *text, const char **bad)
{
	return split(kv, text, true, NULL, bad);
}
int keyval_split_repeats(struct keyval *kv, const char *text, const char *key, const char **bad)
{
	return split(kv, text, false, key, bad);
}

void keyval_free(struct keyval *kv)
{
	free(kv->copy);
	*kv = (struct keyval){0};
}

static int find(const struct keyval *kv, const char *key)
{
	for (unsigned i = 0; i < kv->count; i++)
		if (strcmp(kv->pair[i].key, key) == 0 && !(kv->repeats && kv->pair[i].taken))
			return (int)i;
	return -1;
}

const char *keyval_take(struct keyval *kv, const char *key)
{
	int i = find(kv, key);

	if (i < 0)
		return NULL;
	kv->pair[i].taken = true;
	return kv->pair[i].value;
}

int keyval_take_flag(struct keyval *kv, const char *key, bool *value)
{
	int i = find(kv, key);

	if (i < 0)
		return 0;
	kv->pair[i].taken = true;
	if (!kv->pair[i].has_value || strcmp(kv->pair[i].value, "on") == 0)
		*value = true;
	else if (strcmp(kv->pair[i].value, "off") == 0)
		*value = false;
	else
		return -EINVAL;
	return 0;
}

const char *keyval_left(const struct keyval *kv)
{
	for (unsigned i = 0; i < kv->count; i++)
		if (!kv->pair[i].taken)
			return kv->pair[i].key;
	return NULL;
}
