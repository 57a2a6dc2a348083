/*
 * Log topics: which are on, and the writing of one line. Any thread, no lock: a line is formatted
 * on the caller's stack and leaves by one write(2).
 */
#include "util/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

unsigned long log_enabled_topics;

static const char *const topic_name[LOG_TOPIC_COUNT] = {
#define X(id, name, help) [id] = name,
	LOG_TOPICS(X)
#undef X
};

static bool word_is(const char *word, size_t len, const char *name)
{
	return strlen(name) == len && memcmp(word, name, len) == 0;
}

/* The topics that one word names, as bits; 0 when none. */
static unsigned long topics_of_word(const char *word, size_t len)
{
	if (word_is(word, len, "all"))
		return (1ul << LOG_TOPIC_COUNT) - 1;
	for (unsigned t = 0; t < LOG_TOPIC_COUNT; t++)
		if (word_is(word, len, topic_name[t]))
			return 1ul << t;
	return 0;
}

int log_enable(const char *list, const char **bad, int *bad_len)
{
	unsigned long topics = 0;

	for (const char *word = list;; word++) {
		size_t len = strcspn(word, ",");
		unsigned long found = topics_of_word(word, len);

		if (!found) {
			*bad = word;
			*bad_len = (int)len;
			return -EINVAL;
		}
		topics |= found;
		word += len;
		if (*word == '\0')
			break;
	}
	log_enabled_topics |= topics;
	return 0;
}

void log_write(enum log_topic t, const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	int len = snprintf(line, sizeof line, "[%s] ", topic_name[t]);

	va_start(ap, fmt);
	int n = vsnprintf(line + len, sizeof line - len - 1, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	len += n;
	if (len > (int)sizeof line - 2)
		len = sizeof line - 2;
	if (line[len - 1] != '\n')
		line[len++] = '\n';
	/* A log that cannot be written is lost: there is nowhere to say so. */
	ssize_t written = write(STDERR_FILENO, line, len);
	(void)written;
}
