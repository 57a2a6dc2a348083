# The same system with its kernel handed over.
debian_down
start=$(date +%s%N)
debian_up
check "kernel: Debian to its login prompt, ssh answers" $?
