/*
 * Intel 82540EM ("e1000"): a gigabit Ethernet controller on PCI, in front of a struct net. Under vm->lock, or while the
 * machine is built. Source: PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual (317453).
 */
#ifndef RINGSIDE_E1000_H
#define RINGSIDE_E1000_H

struct e1000;
struct loop;
struct net;
struct pci_bus;
struct timer_queue;

struct e1000_config {
	struct pci_bus *pci;
	int devfn; /* -1: first free */
	struct loop *loop;
	struct timer_queue *timers;
	struct net *net; /* attached to, until e1000_free */
	const char *rom; /* expansion ROM, a file of the host; NULL: none */
};

struct e1000 *e1000_new(const struct e1000_config *config); /* NULL: errno */
void e1000_free(struct e1000 *d);

#endif
