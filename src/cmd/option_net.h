/* --net. */
#ifndef RINGSIDE_OPTION_NET_H
#define RINGSIDE_OPTION_NET_H

struct backends_config;

/* Adds a network card to the configuration. 0, or -EINVAL and one line on stderr. */
int option_net(struct backends_config *c, const char *value);

#endif
