/*
 * Option values of the kind "FILE,format=raw,ro": a first word, then keys with or without a value. Two commas stand
 * for one in a word. Words are taken one by one; what nobody took is the user's mistake.
 */
#ifndef RINGSIDE_KEYVAL_H
#define RINGSIDE_KEYVAL_H

#include <stdbool.h>

#define KEYVAL_MAX 32u

struct keyval {
	char *copy;  /* owns all strings */
	char *first; /* the first word, whole, "=" and all */
	const char *repeats; /* NULL, or a key that may come several times */
	unsigned count;
	struct {
		char *key, *value; /* value "" when there was no "=" */
		bool has_value, taken;
	} pair[KEYVAL_MAX];
};

/* 0, -EINVAL (a word without a key, or a key twice; *bad is that word), -E2BIG, -ENOMEM. keyval_free in any case. */
int keyval_split(struct keyval *kv, const char *text, const char **bad);
/* As keyval_split, but the first word is a pair like the others (for options without a main value). */
int keyval_split_pairs(struct keyval *kv, const char *text, const char **bad);
/* As keyval_split, but `key` may come several times: keyval_take gives one value after the other, then NULL. */
int keyval_split_repeats(struct keyval *kv, const char *text, const char *key, const char **bad);
void keyval_free(struct keyval *kv);

/* The value of `key`, NULL when it is not there. */
const char *keyval_take(struct keyval *kv, const char *key);
/* A flag: "ro", "ro=on", "ro=off". Returns 0 (not there: *value is left as it is) or -EINVAL. */
int keyval_take_flag(struct keyval *kv, const char *key, bool *value);
/* The first key that was not taken, or NULL. */
const char *keyval_left(const struct keyval *kv);

#endif
