/* Which descriptors a process of Ringside has at its beginning. Main thread, before anything else is opened. */
#ifndef RINGSIDE_DESCRIPTORS_H
#define RINGSIDE_DESCRIPTORS_H

/* Standard input, output and error are open from now on, to /dev/null if they were not: no disk or socket becomes what
 * messages are written to. */
void descriptors_fill_standard(void);

/* What the parent process left open is closed, but for the standard ones and those that a word of argv[0..argc) names:
 * `fd=N`, /dev/fd/N, /proc/self/fd/N. */
void descriptors_close_inherited(int argc, char *const *argv);

#endif
