/*
 * --net: "user,hostfwd=tcp:127.0.0.1:2222-:22,model=e1000" to a struct net_config. Main thread.
 */
#include "cmd/option_net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/options.h"
#include "machine/backends.h"
#include "util/keyval.h"
#include "virtio/net.h"

#define MTU_MIN 68u /* of IPv4 */
#define MTU_MAX 65535u

/* A number from `low` to `high`, whole. */
static bool parse_number(const char *s, unsigned long low, unsigned long high, unsigned long *value)
{
	char *end;

	errno = 0;
	*value = strtoul(s, &end, 10);
	return *s >= '0' && *s <= '9' && *end == '\0' && errno == 0 && *value >= low && *value <= high;
}

static bool copy_string(char *to, size_t size, const char *from)
{
	return *from && (size_t)snprintf(to, size, "%s", from) < size;
}

/* ---- addresses ---- */

static bool parse_port(const char *s, uint16_t *port)
{
	unsigned long n;
	bool ok = parse_number(s, 1, 65535, &n);

	*port = (uint16_t)n;
	return ok;
}

static bool parse_ip4(const char *s, struct in_addr *a)
{
	return *s == '\0' ? (a->s_addr = INADDR_ANY, true) : inet_pton(AF_INET, s, a) == 1;
}

/* [tcp|udp]:[ADDRESS]:PORT-[ADDRESS]:PORT; `s` is taken apart. */
static bool parse_forward(char *s, struct net_forward *f)
{
	char *host = strchr(s, ':'), *host_port = host ? strchr(host + 1, ':') : NULL;
	char *guest = host_port ? strchr(host_port + 1, '-') : NULL, *guest_port = guest ? strchr(guest + 1, ':') : NULL;

	if (!guest_port)
		return false;
	*host++ = *host_port++ = *guest++ = *guest_port++ = '\0';
	f->udp = strcmp(s, "udp") == 0;
	return (f->udp || *s == '\0' || strcmp(s, "tcp") == 0) && parse_ip4(host, &f->host) &&
	       parse_port(host_port, &f->host_port) && parse_ip4(guest, &f->guest) && parse_port(guest_port, &f->guest_port);
}

/* unix:PATH, A.B.C.D:PORT or [V6]:PORT. Names are not looked up: that may take long. */
static bool parse_address(const char *s, struct net_socket_config *c)
{
	char host[INET6_ADDRSTRLEN + 2];
	const char *colon = strrchr(s, ':');
	uint16_t port;

	memset(&c->address, 0, sizeof c->address);
	if (strncmp(s, "unix:", 5) == 0) {
		c->address.un.sun_family = AF_UNIX;
		c->address_len = sizeof c->address.un;
		return copy_string(c->address.un.sun_path, sizeof c->address.un.sun_path, s + 5);
	}
	if (!colon || (size_t)(colon - s) >= sizeof host || !parse_port(colon + 1, &port))
		return false;
	snprintf(host, sizeof host, "%.*s", (int)(colon - s), s);
	size_t len = strlen(host);
	if (len > 2 && host[0] == '[' && host[len - 1] == ']') {
		host[len - 1] = '\0';
		c->address.in6.sin6_family = AF_INET6;
		c->address.in6.sin6_port = htons(port);
		c->address_len = sizeof c->address.in6;
		return inet_pton(AF_INET6, host + 1, &c->address.in6.sin6_addr) == 1;
	}
	c->address.in.sin_family = AF_INET;
	c->address.in.sin_port = htons(port);
	c->address_len = sizeof c->address.in;
	return inet_pton(AF_INET, host, &c->address.in.sin_addr) == 1;
}

static bool parse_mac(const char *s, uint8_t mac[6])
{
	int end = 0;

	if (sscanf(s, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5],
		   &end) != 6 || s[end] != '\0' || strlen(s) != 17)
		return false;
	/* Not a group address, and not nobody's. */
	return !(mac[0] & 1) && (mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5]);
}

/* ---- keys ---- */

static int take_user(struct keyval *kv, struct net_config *c)
{
	struct net_user_config *u = &c->user;
	const char *v;
	bool ipv6 = true;

	while ((v = keyval_take(kv, "hostfwd")) != NULL) {
		char text[128];

		if (u->forwards == NET_FORWARDS_MAX)
			return option_bad("--net user: more than %u ports forwarded", NET_FORWARDS_MAX);
		if (!copy_string(text, sizeof text, v) || !parse_forward(text, &u->forward[u->forwards++]))
			return option_bad("--net user: hostfwd=%s: something like tcp:127.0.0.1:2222-:22 is wanted", v);
	}
	if (keyval_take_flag(kv, "restrict", &u->restricted) < 0)
		return option_bad("--net user: restrict is on or off");
	if (keyval_take_flag(kv, "ipv6", &ipv6) < 0)
		return option_bad("--net user: ipv6 is on or off");
	u->no_ipv6 = !ipv6;
	if ((v = keyval_take(kv, "hostname")) && !copy_string(u->hostname, sizeof u->hostname, v))
		return option_bad("--net user: hostname=%s: 1 to %zu characters are wanted", v, sizeof u->hostname - 1);
	if ((v = keyval_take(kv, "tftp")) && !copy_string(u->tftp, sizeof u->tftp, v))
		return option_bad("--net user: tftp=%s: a directory is wanted", v);
	if ((v = keyval_take(kv, "bootfile")) && !copy_string(u->bootfile, sizeof u->bootfile, v))
		return option_bad("--net user: bootfile=%s: 1 to %zu characters are wanted", v, sizeof u->bootfile - 1);
	return 0;
}

static int take_fd(struct keyval *kv, struct net_config *c)
{
	const char *v = keyval_take(kv, "fd");
	unsigned long n;

	if (!v)
		return 0;
	if (!parse_number(v, 3, INT_MAX, &n))
		return option_bad("--net %s: fd=%s: the number of an open descriptor is wanted", kv->first, v);
	c->fd = (int)n;
	return 0;
}

static int take_tap(struct keyval *kv, struct net_config *c)
{
	const char *v = keyval_take(kv, "ifname");
	int r = take_fd(kv, c);

	if (r < 0)
		return r;
	if (!v == (c->fd < 0))
		return option_bad("--net tap: ifname=NAME or fd=N is wanted");
	if (v && !copy_string(c->tap, sizeof c->tap, v))
		return option_bad("--net tap: ifname=%s: 1 to %zu characters are wanted", v, sizeof c->tap - 1);
	return 0;
}

static int take_socket(struct keyval *kv, struct net_config *c)
{
	const char *connect = keyval_take(kv, "connect"), *listen = keyval_take(kv, "listen");
	const char *address = connect ? connect : listen;
	int r = take_fd(kv, c);

	if (r < 0)
		return r;
	if (!!connect + !!listen + (c->fd >= 0) != 1)
		return option_bad("--net socket: one of connect=ADDRESS, listen=ADDRESS and fd=N is wanted");
	c->socket.listen = listen != NULL;
	if (address && !parse_address(address, &c->socket))
		return option_bad("--net socket: %s: an address like unix:PATH or 127.0.0.1:5555 is wanted", address);
	return 0;
}

static int take_common(struct keyval *kv, struct net_config *c)
{
	const char *v;
	unsigned long n;

	if ((v = keyval_take(kv, "model")) != NULL) {
		if (strcmp(v, "e1000") == 0)
			c->model = NET_MODEL_E1000;
		else if (strcmp(v, "virtio") != 0)
			return option_bad("--net model=%s: there are: virtio, e1000", v);
	}
	if ((v = keyval_take(kv, "mac")) && !parse_mac(v, c->mac))
		return option_bad("--net mac=%s: an address like 52:54:00:12:34:56, not of a group, is wanted", v);
	if ((v = keyval_take(kv, "mtu")) != NULL) {
		if (!parse_number(v, MTU_MIN, MTU_MAX, &n))
			return option_bad("--net mtu=%s: a number from %u to %u is wanted", v, MTU_MIN, MTU_MAX);
		if (c->model == NET_MODEL_E1000)
			return option_bad("--net mtu=%s: an e1000 cannot tell its driver; the guest can set it", v);
		c->mtu = (uint16_t)n;
	}
	if ((v = keyval_take(kv, "queues")) != NULL) {
		if (!parse_number(v, 1, VIRTIO_NET_PAIRS_MAX, &n))
			return option_bad("--net queues=%s: a number from 1 to %u is wanted", v, VIRTIO_NET_PAIRS_MAX);
		if (c->model == NET_MODEL_E1000)
			return option_bad("--net queues=%s: an e1000 has one pair", v);
		c->queues = (unsigned)n;
	}
	if ((v = keyval_take(kv, "pcap")) && !copy_string(c->pcap, sizeof c->pcap, v))
		return option_bad("--net pcap=%s: a file is wanted", v);
	return 0;
}

static int take(struct keyval *kv, struct net_config *c)
{
	int r;

	if (strcmp(kv->first, "user") == 0) {
		c->kind = NET_USER;
		r = take_user(kv, c);
	} else if (strcmp(kv->first, "tap") == 0) {
		c->kind = NET_TAP;
		r = take_tap(kv, c);
	} else if (strcmp(kv->first, "socket") == 0) {
		c->kind = NET_SOCKET;
		r = take_socket(kv, c);
	} else {
		return option_bad("--net %s: unknown kind; there are: none, user, tap, socket", kv->first);
	}
	if (r == 0)
		r = take_common(kv, c);
	if (r == 0 && keyval_left(kv))
		return option_bad("--net %s: unknown key '%s'", kv->first, keyval_left(kv));
	return r;
}

int option_net(struct backends_config *b, const char *value)
{
	struct net_config *c = &b->net[b->nets];
	struct keyval kv;
	const char *word;
	int r;

	if (strcmp(value, "none") == 0)
		return b->nets ? option_bad("--net none: there is a card already") : 0;
	if (b->nets == NET_MAX)
		return option_bad("--net %s: %u cards are the most", value, NET_MAX);
	*c = (struct net_config){.fd = -1, .mac = {0x52, 0x54, 0x00, 0x12, 0x34, (uint8_t)(0x56 + b->nets)}};
	for (unsigned i = 0; i < b->nets; i++)
		c->user.number += b->net[i].kind == NET_USER;
	r = keyval_split_repeats(&kv, value, "hostfwd", &word);
	if (r < 0)
		r = option_bad("--net %s: '%s': %s", value, word,
			       r == -EINVAL ? "a key like model=virtio, once, is wanted" : strerror(-r));
	else
		r = take(&kv, c);
	keyval_free(&kv);
	for (unsigned i = 0; r == 0 && i < b->nets; i++)
		if (memcmp(b->net[i].mac, c->mac, sizeof c->mac) == 0)
			r = option_bad("--net %s: two cards with the same MAC address", value);
	if (r == 0)
		b->nets++;
	return r;
}
