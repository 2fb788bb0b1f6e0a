# Runs a command on a machine whose Python every user may read: in a private mount namespace the closed folder
# (say /root) is replaced by an empty open one that holds the interpreter's folder alone.
# Usage: unshare --mount --propagation private sh readable_python.sh CLOSED INTERPRETER COMMAND...
set -e
closed=$1 interpreter=$2
shift 2
if [ -n "$closed" ]; then
    keep=$(mktemp -d)
    mount --bind "$interpreter" "$keep"
    mount -t tmpfs -o mode=755 tmpfs "$closed"
    mkdir -p "$interpreter"
    mount --bind "$keep" "$interpreter"
    umount "$keep"
    rmdir "$keep"
fi
exec "$@"
