/*
 * The sandbox, each thread role in a process of its own: what it has no need of ends the process with one line and
 * status 159 or is refused, and what it needs works; files are those that it was given; a new root has nothing else.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/landlock.h>
#include <linux/netlink.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "block/uring.h"
#include "check.h"
#include "sandbox/sandbox.h"

#define STATUS_FORBIDDEN (128 + SIGSYS)
#define STATUS_NO_PREPARE 99

static const char *const role_names[] = {
#define X(id, name) name,
	SANDBOX_ROLE_LIST(X)
#undef X
};

static char directory[] = "/tmp/ringside-sandbox-XXXXXX"; /* file, shared/file, secret */
static char path_file[64], path_shared[64], path_secret[64], path_outside[64], path_link[64], path_hop[64];
static pid_t parent;
static bool landlock; /* this host has it */
static int abi;       /* the version of it */
static struct sockaddr_un abstract = {.sun_family = AF_UNIX};

/* ---- a role in a process of its own ---- */

struct job {
	enum sandbox_role role;
	const struct sandbox_config *config;
	int (*run)(void); /* its result is the process's exit status */
	int result;
};

static void *job_thread(void *opaque)
{
	struct job *j = opaque;

	sandbox_enter(j->role);
	j->result = j->run();
	return NULL;
}

/* The exit status, and what it wrote to stderr. */
static int run_job(struct job *j, char *line, size_t size)
{
	int pipes[2], status = -1;
	size_t len = 0;
	pid_t child;

	if (pipe(pipes) < 0 || (child = fork()) < 0)
		return -1;
	if (child == 0) {
		char error[256];
		pthread_t t;

		dup2(pipes[1], STDERR_FILENO);
		if (sandbox_prepare(j->config, error, sizeof error) < 0) {
			dprintf(STDERR_FILENO, "%s\n", error);
			_exit(STATUS_NO_PREPARE);
		}
		if (j->role == SANDBOX_IO) {
			job_thread(j);
		} else {
			pthread_create(&t, NULL, job_thread, j);
			pthread_join(t, NULL);
		}
		_exit(j->result);
	}
	close(pipes[1]);
	for (ssize_t n; len + 1 < size && (n = read(pipes[0], line + len, size - 1 - len)) > 0; len += (size_t)n)
		;
	line[len] = '\0';
	close(pipes[0]);
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
}

static const struct sandbox_config plain;

/* One line that names the role and the call, and the status of SIGSYS. */
static void check_ends(enum sandbox_role role, const char *call, int (*run)(void))
{
	struct job j = {.role = role, .config = &plain, .run = run};
	char line[1024], want[128];
	int status = run_job(&j, line, sizeof line);

	snprintf(want, sizeof want, "%s called %s (", role_names[role], call);
	bool good = status == STATUS_FORBIDDEN && strstr(line, want) && strchr(line, '\n') == line + strlen(line) - 1;
	if (!good)
		printf("# %s, %s: status %d: %s\n", role_names[role], call, status, line);
	CHECK(good);
}

/* `run` gives 0. */
static void check_works(enum sandbox_role role, const struct sandbox_config *config, int (*run)(void), const char *what)
{
	struct job j = {.role = role, .config = config, .run = run};
	char line[1024];
	int status = run_job(&j, line, sizeof line);

	if (status != 0)
		printf("# %s, %s: status %d: %s\n", role_names[role], what, status, line);
	CHECK_EQ(status, 0);
}

/* ---- what nobody may ---- */

static int do_execve(void)
{
	char *const none[] = {NULL};

	return execve("/bin/true", none, none);
}
static int do_fork(void) { return (int)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) >= 0; }
static int do_create(void) { return open(path_file, O_WRONLY | O_CREAT, 0600); }
static int do_ptrace(void) { return (int)ptrace(PTRACE_TRACEME, 0, 0, 0); }
static int do_kill(void) { return kill(parent, SIGTERM); }
static int do_tgkill(void) { return (int)syscall(SYS_tgkill, parent, parent, SIGTERM); }
static int do_uring(void) { return (int)syscall(SYS_io_uring_setup, 8, NULL); }
static int do_bpf(void) { return (int)syscall(SYS_bpf, 0, NULL, 0); }
static int do_mount(void) { return (int)syscall(SYS_mount, "none", "/tmp", "tmpfs", 0, NULL); }
static int do_setuid(void) { return (int)syscall(SYS_setuid, 0); }
static int do_prctl(void) { return (int)syscall(SYS_prctl, 0, 0, 0, 0, 0); }
static int do_unshare(void) { return unshare(CLONE_NEWUSER); }
static int do_push(void) { return ioctl(0, TIOCSTI, "x"); }
static int do_packet(void) { return socket(AF_PACKET, SOCK_RAW, 0); }
static int do_process_vm(void) { return (int)syscall(SYS_process_vm_readv, getpid(), NULL, 0, NULL, 0, 0); }
static int do_exec_mmap(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED;
}
static int do_exec_mprotect(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return mprotect(p, 4096, PROT_READ | PROT_EXEC);
}
static int do_thread(void) { return (int)syscall(SYS_clone, CLONE_THREAD | CLONE_VM | CLONE_SIGHAND, 0, 0, 0, 0); }
static int do_sctp(void) { return socket(AF_INET, SOCK_STREAM, IPPROTO_SCTP); }
static int do_netfilter(void) { return socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER); }
static int do_inet(void) { return socket(AF_INET, SOCK_STREAM, 0); }
static int do_unix(void) { return socket(AF_UNIX, SOCK_STREAM, 0); }
static int do_accept(void) { return accept(0, NULL, NULL); }
static int do_unlink(void) { return unlink(path_file); }
static int do_openat2(void)
{
	struct open_how how = {.flags = O_RDONLY};

	return (int)syscall(SYS_openat2, AT_FDCWD, path_file, &how, sizeof how);
}
static int do_kvm(void) { return ioctl(0, 0xae01, 0); }
static int do_memfd(void) { return memfd_create("x", 0); }

static const struct {
	const char *call;
	int (*run)(void);
	unsigned roles_that_may;
} forbidden[] = {
	{"execve", do_execve, 0},
	{"clone", do_fork, 0},
	{"openat", do_create, 1 << SANDBOX_SHARE},
	{"ptrace", do_ptrace, 0},
	{"kill", do_kill, 0},
	{"tgkill", do_tgkill, 0},
	{"io_uring_setup", do_uring, 0},
	{"bpf", do_bpf, 0},
	{"mount", do_mount, 0},
	{"setuid", do_setuid, 0},
	{"prctl", do_prctl, 0},
	{"unshare", do_unshare, 0},
	{"ioctl", do_push, 0},
	{"socket", do_packet, 0},
	{"socket", do_sctp, 0},
	{"socket", do_netfilter, 0},
	{"process_vm_readv", do_process_vm, 0},
	{"mmap", do_exec_mmap, 0},
	{"mprotect", do_exec_mprotect, 0},
	{"clone", do_thread, 1 << SANDBOX_IO},
	{"socket", do_inet, 1 << SANDBOX_REMOTE_DISK},
	{"socket", do_unix, 1 << SANDBOX_REMOTE_DISK},
	{"accept", do_accept, 1 << SANDBOX_SCREEN},
	{"unlink", do_unlink, 0},
	{"openat2", do_openat2, 1 << SANDBOX_SHARE},
	{"ioctl", do_kvm, 0},
	{"memfd_create", do_memfd, 1 << SANDBOX_IO},
};

static void test_forbidden(void)
{
	for (enum sandbox_role role = 0; role < SANDBOX_ROLES; role++)
		for (unsigned i = 0; i < sizeof forbidden / sizeof forbidden[0]; i++)
			if (!(forbidden[i].roles_that_may >> role & 1))
				check_ends(role, forbidden[i].call, forbidden[i].run);
}

/* ---- what is refused, and all go on ---- */

static int read_is_refused(void) { return !(open("/etc/passwd", O_RDONLY) < 0 && errno == EACCES); }

/* Memory, locks, a descriptor that is open, a signal to itself. */
static int ordinary(void)
{
	char *p = malloc(1 << 20);
	pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
	struct timespec t = {.tv_nsec = 1000};

	if (!p)
		return 1;
	memset(p, 1, 1 << 20);
	free(p);
	pthread_mutex_lock(&m);
	pthread_mutex_unlock(&m);
	nanosleep(&t, NULL);
	signal(SIGUSR1, SIG_IGN);
	return raise(SIGUSR1) != 0 || write(STDERR_FILENO, "", 0) != 0;
}

static void test_ordinary(void)
{
	for (enum sandbox_role role = 0; role < SANDBOX_ROLES; role++) {
		check_works(role, &plain, ordinary, "what all do");
		if (role != SANDBOX_SHARE)
			check_works(role, &plain, read_is_refused, "a file that is not its own");
	}
}

/* ---- files and sockets that a machine was given ---- */

static int can_read(const char *path)
{
	int fd = open(path, O_RDONLY);

	if (fd >= 0)
		close(fd);
	return fd >= 0 ? 0 : errno;
}

static int io_files(void)
{
	return can_read(path_shared) != 0 ? 1 : can_read(path_secret) != EACCES ? 2 : can_read("/etc/passwd") != EACCES ? 3 : 0;
}
static int io_root(void)
{
	return can_read(path_shared) != 0 ? 1 : can_read(path_secret) != ENOENT ? 2 : can_read("/etc/passwd") != ENOENT ? 3 : 0;
}
static int io_link(void) /* a link is one in the new root, too, whatever other links are on its way */
{
	return can_read(path_link) != 0 ? 1 : open(path_link, O_RDONLY | O_NOFOLLOW) >= 0 || errno != ELOOP ? 2 : 0;
}
static int share_files(void)
{
	char made[80];

	snprintf(made, sizeof made, "%s/shared/new", directory);
	int fd = open(made, O_WRONLY | O_CREAT, 0600);
	if (fd < 0 || write(fd, "x", 1) != 1 || ftruncate(fd, 0) < 0 || mknod(made, S_IFREG, 0) == 0 || unlinkat(AT_FDCWD, made, 0) < 0)
		return 1;
	return io_files();
}
static int share_readonly(void)
{
	return can_read(path_shared) != 0 ? 1 : open(path_shared, O_WRONLY) >= 0 || errno != EACCES ? 2 : 0;
}
static int sockets(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), local = socket(AF_UNIX, SOCK_STREAM, 0);

	return fd < 0 || local < 0;
}
static int connects_to_abstract(void) /* which the parent has made */
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), r = connect(fd, (struct sockaddr *)&abstract, sizeof abstract);

	return fd < 0 ? 1 : abi >= 6 ? r == 0 || errno != EPERM : r < 0;
}
static int removes(void) { return unlink(path_file) != 0 ? 1 : landlock && unlink(path_outside) == 0 ? 2 : 0; }
static int starts_threads(void)
{
	pthread_t t;
	struct job j = {.role = SANDBOX_VCPU, .config = &plain, .run = ordinary};

	if (pthread_create(&t, NULL, job_thread, &j) != 0)
		return 1;
	pthread_join(t, NULL);
	return j.result;
}
/* On what is no file: each fails, and none of them ends the process. */
static int disk_calls(void)
{
	char c = 0;
	struct iovec v = {&c, 1};
	bool fail = preadv(STDERR_FILENO, &v, 1, 0) < 0 && pwritev(STDERR_FILENO, &v, 1, 0) < 0 && fdatasync(STDERR_FILENO) < 0 &&
		    fallocate(STDERR_FILENO, 0, 0, 1) < 0 && ftruncate(STDERR_FILENO, 0) < 0;

	return !fail;
}
static int no_network(void) /* a namespace with nothing in it but a loopback that is down */
{
	struct sockaddr_storage a = {.ss_family = AF_INET};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	static const uint8_t address[] = {AF_INET, 0, 0, 53, 127, 0, 0, 1};

	memcpy(&a, address, sizeof address);
	return fd < 0 ? 1 : connect(fd, (struct sockaddr *)&a, 16) == 0 || errno != ENETUNREACH ? 2 : 0;
}
static int reopens(void)
{
	int fd = sandbox_open(path_secret, O_RDONLY);
	char c = 0;

	return fd < 0 ? 1 : read(fd, &c, 1) != 1 || c != 's' ? 2 : sandbox_open("/etc/passwd", O_RDONLY) >= 0 ? 3 : 0;
}

/* Does this host permit them? */
static bool namespaces(void)
{
	int status;
	pid_t child = fork();

	if (child == 0)
		_exit(unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0);
	waitpid(child, &status, 0);
	return status == 0;
}

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	CHECK(fd >= 0 && write(fd, text, strlen(text)) > 0);
	close(fd);
}

static void test_given(void)
{
	char shared[64];

	snprintf(shared, sizeof shared, "%s/shared", directory);
	const struct sandbox_config reads = {.needs = SANDBOX_FILES, .paths = 1, .path = {{shared, SANDBOX_READ}}};
	const struct sandbox_config shares = {.paths = 1, .path = {{shared, SANDBOX_SHARE_WRITE}}};
	const struct sandbox_config shown = {.paths = 1, .path = {{shared, SANDBOX_SHARE_READ}}};
	const struct sandbox_config net = {.needs = SANDBOX_INET | SANDBOX_UNIX};
	const struct sandbox_config sockets_end = {.needs = SANDBOX_UNLINK, .paths = 1, .path = {{directory, SANDBOX_REMOVE}}};
	const struct sandbox_config linked = {
		.chroot = true, .needs = SANDBOX_FILES, .paths = 2, .path = {{path_link, SANDBOX_READ}, {shared, SANDBOX_READ}}};
	struct sandbox_config root = reads;

	if (landlock) {
		check_works(SANDBOX_IO, &reads, io_files, "files to read");
		check_works(SANDBOX_REMOTE_DISK, &reads, io_files, "files to read");
		check_works(SANDBOX_SHARE, &shares, share_files, "a shared directory");
		check_works(SANDBOX_SHARE, &shown, share_readonly, "a read-only shared directory");
	} else {
		printf("# no Landlock here: files are not tested\n");
	}
	check_works(SANDBOX_IO, &net, sockets, "sockets");
	int listener = socket(AF_UNIX, SOCK_STREAM, 0);
	snprintf(abstract.sun_path + 1, sizeof abstract.sun_path - 1, "ringside-%d", (int)getpid());
	CHECK(bind(listener, (struct sockaddr *)&abstract, sizeof abstract) == 0 && listen(listener, 1) == 0);
	check_works(SANDBOX_IO, &net, connects_to_abstract, "a socket without a file");
	close(listener);
	check_works(SANDBOX_DISK, &plain, disk_calls, "files");
	check_works(SANDBOX_REMOTE_DISK, &plain, disk_calls, "files"); /* a snapshot's, for one */
	check_works(SANDBOX_IO, &plain, starts_threads, "a thread of a role");
	write_text(path_file, "f");
	check_works(SANDBOX_IO, &sockets_end, removes, "removing a socket");
	root.chroot = true;
	root.needs |= SANDBOX_INET;
	if (namespaces()) {
		check_works(SANDBOX_IO, &root, io_root, "a root of its own");
		check_works(SANDBOX_IO, &root, no_network, "no network");
		check_works(SANDBOX_IO, &linked, io_link, "a link");
	} else {
		printf("# no namespaces here: they are not tested\n");
	}
}

/* What was opened before is there afterwards, from its beginning; what was not there stays so. */
static void test_kept(void)
{
	char error[256];
	int status;
	pid_t child = fork();

	if (child == 0) {
		char c;

		if (sandbox_prepare(&plain, error, sizeof error) < 0)
			_exit(STATUS_NO_PREPARE);
		int fd = sandbox_open(path_secret, O_RDONLY);
		if (fd < 0 || read(fd, &c, 1) != 1 || sandbox_can_open("/nonexistent"))
			_exit(10);
		close(fd);
		sandbox_enter(SANDBOX_IO);
		_exit(sandbox_can_open("/nonexistent") ? 11 : reopens());
	}
	waitpid(child, &status, 0);
	CHECK_EQ(status, 0);
}

/* A disk's ring takes reads and writes only, and nothing can be registered with it: no filter sees what it does. */
static void test_ring(void)
{
	struct uring *u = uring_new();
	int event = eventfd(0, 0);

	if (u)
		CHECK_EQ(io_uring_register((unsigned)uring_fd(u), IORING_REGISTER_EVENTFD, &event, 1), -EACCES);
	else
		printf("# no io_uring here: it is not tested\n");
	close(event);
	uring_free(u);
}

int main(void)
{
#ifdef SANITIZERS
	printf("# sanitizers' run-time libraries call what a role may not: not tested with them\n");
	return summary();
#endif
	if (!mkdtemp(directory))
		return 1;
	parent = getpid();
	abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	landlock = abi >= 1;
	snprintf(path_outside, sizeof path_outside, "%s.outside", directory);
	write_text(path_outside, "o");
	snprintf(path_link, sizeof path_link, "%s/link", directory);
	snprintf(path_hop, sizeof path_hop, "%s/hop", directory);
	CHECK(symlink("hop/file", path_link) == 0 && symlink("shared", path_hop) == 0);
	snprintf(path_file, sizeof path_file, "%s/file", directory);
	snprintf(path_secret, sizeof path_secret, "%s/secret", directory);
	snprintf(path_shared, sizeof path_shared, "%s/shared", directory);
	CHECK(mkdir(path_shared, 0700) == 0);
	strcat(path_shared, "/file");
	write_text(path_file, "f");
	write_text(path_secret, "secret");
	write_text(path_shared, "shared");
	test_forbidden();
	test_ordinary();
	test_given();
	test_kept();
	test_ring();
	unlink(path_shared);
	unlink(path_outside);
	unlink(path_link);
	unlink(path_hop);
	unlink(path_secret);
	unlink(path_file);
	path_shared[strlen(path_shared) - strlen("/file")] = '\0';
	CHECK(rmdir(path_shared) == 0 && rmdir(directory) == 0);
	return summary();
}
