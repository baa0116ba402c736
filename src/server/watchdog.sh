# Ends its own process group once its standard input does, that is, once the test process is gone.
# Argument: the grace between SIGTERM and SIGKILL, in tenths of a second.
#
# Standard output is the lock of the server's port. It is never written to, and is freed when this
# shell ends, which is after all others of the group.

grace=$1

# SIGTERM and its like are sent to the group, whose leader this is; the leader ends last.
trap '' HUP INT QUIT TERM PIPE USR1 USR2 ALRM TSTP TTIN TTOU

# Says that it may be signalled from now on, and waits for the end.
echo ready >&0
while read -r _; do :; done

# Sets `others` to the living members of the group but this shell.
look() {
    others=
    for stat in /proc/[0-9]*/stat; do
        read -r pid rest <"$stat" || continue
        # After the last parenthesis, which ends the program's name: state, parent, group.
        set -- ${rest##*) }
        case $1 in Z | X) continue ;; esac
        if [ "$3" = "$$" ] && [ "$pid" != "$$" ]; then others="$others $pid"; fi
    done
}

# `kill -TERM -- -$$` is an error in dash. A stopped process handles SIGTERM only once continued.
kill -s TERM -- 0
kill -s CONT -- 0

# Where nothing can be seen, the whole grace is waited for.
if ! [ -r /proc/$$/stat ]; then sleep $((grace / 10 + 1)); fi

nap() { sleep 0.1 || sleep 1; }

look
while [ -n "$others" ] && [ "$grace" -gt 0 ]; do
    grace=$((grace - 1))
    nap
    look
done

# One by one, because a signal to the group would end this shell, and with it the lock, first.
bound=30
while [ -n "$others" ] && [ "$bound" -gt 0 ]; do
    kill -s KILL -- $others
    bound=$((bound - 1))
    nap
    look
done
kill -s KILL -- 0
