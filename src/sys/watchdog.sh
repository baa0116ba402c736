# Ends its own process group once its standard input does, that is, once the test process is gone.
# Its input: the signal that asks the server to end. Arguments: how long it has then, in tenths of a
# second; a directory, which goes with the server, if there is one.
#
# Standard output is the lock of the server's port. It is never written to, and is freed when this
# shell ends, which is after all others of the group.

grace=$(($1 * 10)) # from here on in hundredths, as the clock has it
dir=$2
PATH=$PATH:/usr/bin:/bin

# That signal and its like are sent to the group, whose leader this is; the leader ends last.
trap '' HUP INT QUIT TERM PIPE USR1 USR2 ALRM TSTP TTIN TTOU

# Says that it may be signalled from now on, and waits for the end.
echo ready >&0
signal=TERM
while read -r word; do signal=$word; done

# Whether /proc shows this process under its own number, and not another pid namespace.
sees_itself() { read -r pid _ </proc/self/stat && [ "$pid" = "$$" ]; }

# Sets `others` to the living members of the group but this shell, and does `$1` to each.
#
# At once, and not when the look is over: by then, a number might mean a process of somebody else.
look() {
    others=
    act=$1
    for stat in /proc/[0-9]*/stat; do
        read -r pid rest <"$stat" || continue
        # After the last parenthesis, which ends the program's name: state, parent, group; at
        # place 18 the number of threads, of which the first may be dead and others not.
        set -- ${rest##*) }
        if [ "$3" != "$$" ] || [ "$pid" = "$$" ]; then continue; fi
        case $1 in
            X) continue ;;
            Z) if [ "${18}" -le 1 ]; then continue; fi ;;
        esac
        others="$others $pid"
        $act "$pid"
    done
}

end() { kill -s KILL -- "$1"; }

# Go keeps its modules in directories that are read-only. A link of that name is somebody else's.
tidy() {
    if [ ! -d "$dir" ] || [ -h "$dir" ]; then return; fi
    rm -rf -- "$dir" || { chmod -R u+rwx -- "$dir"; rm -rf -- "$dir"; }
}

# Sets `now` to the time since the machine was started. Costs no process, as `date` would.
clock() { read -r now _ </proc/uptime && now=${now%.*}${now#*.}; }

# Sleeps for a moment, and takes off the grace what passed since the last time: the looks in between
# take their time too.
nap() {
    if sleep 0.1; then passed=10; else sleep 1; passed=100; fi
    before=$now
    if clock; then passed=$((now - before)); fi
    grace=$((grace - passed))
}

clock || now=0

# Where no process can be started any more (`ulimit -u`, a container's limit), `sleep` ends a dash.
trap 'kill -s KILL -- 0' EXIT

# `kill -TERM -- -$$` is an error in dash. A stopped process handles a signal only once continued.
kill -s "$signal" -- 0
kill -s CONT -- 0

# Where nothing can be seen, all of the grace is waited for.
if ! sees_itself; then
    while [ "$grace" -gt 0 ]; do nap; done
    tidy
    kill -s KILL -- 0
fi

look :
while [ -n "$others" ] && [ "$grace" -gt 0 ]; do
    nap
    look :
done

# One by one, because a signal to the group would end this shell, and with it the lock, first. Who
# may not be killed (another user) keeps the port until it goes by itself.
rounds=0
while [ -n "$others" ]; do
    look end
    rounds=$((rounds + 1))
    if [ "$rounds" -lt 30 ]; then nap; else sleep 1; fi
    look :
done
tidy
kill -s KILL -- 0
