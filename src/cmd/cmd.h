/*
 * The commands of ringside(1), and what its exit status says. Commands run on the main thread; they
 * alone may end the process.
 */
#ifndef RINGSIDE_CMD_H
#define RINGSIDE_CMD_H

#define RINGSIDE_VERSION "0.1"

enum status {
	STATUS_OK = 0,           /* power off; reset with --no-reboot; Ctrl-A x */
	STATUS_ERROR = 1,        /* could not start, or could not go on */
	STATUS_USAGE = 2,        /* bad command line */
	STATUS_TRIPLE_FAULT = 4, /* even, so that no --debug-exit status (2N+1) is the same */
	STATUS_SIGNAL = 128,     /* + the signal that ended it */
};

int cmd_help(void);
int cmd_version(void);
/* Arguments behind "run". */
int cmd_run(int argc, char **argv);
/* Arguments behind "screenshot". */
int cmd_screenshot(int argc, char **argv);
/* Arguments behind "doctor". */
int cmd_doctor(int argc, char **argv);

#endif
