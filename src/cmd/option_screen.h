/* --vga, --input, --screen, --vnc. */
#ifndef RINGSIDE_OPTION_SCREEN_H
#define RINGSIDE_OPTION_SCREEN_H

struct backends_config;

/* 0, or -EINVAL and one line on stderr. */
int option_vga(struct backends_config *c, const char *value);
int option_input(struct backends_config *c, const char *value);
int option_screen(struct backends_config *c, const char *value);
int option_vnc(struct backends_config *c, const char *value);
/* After all options: do they go together? */
int option_screen_check(const struct backends_config *c);

#endif
