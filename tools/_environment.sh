# shellcheck shell=bash
# Shared by quickstart.sh, run_tests.sh and .ci/run: finds or makes the Python environment. Sourced, never run.
#
#   mmlk_prepare [MODULE ...]   leaves the interpreter's path in $python; a given environment must also hold MODULEs
#   say, fail                   progress lines with the elapsed time, and errors
#   environment_help            the paragraph of the --help texts about environment variables
#
# The script that sources this has set $root, the repository, and maybe $family: `onedl` instead of `upstream`, which adds
# -onedl to the names of environment and lock, so that the two families of packages never share an environment.
#
# The environment is $MMLK_VENV (default: .venv in the repository). While it is being made or changed, the file
# mmlk-environment inside it says `installing`; afterwards it says `ready LOCK-HASH PYTHON-VERSION`. So whatever was
# interrupted is seen by the next run and made anew, and a changed lock is followed. A lock on the folder keeps two runs
# from installing at the same time. Works in bash 3.2 and later.

# shellcheck disable=SC2034  # shown by the two scripts
environment_help='Environment variables:
  PYTHON=NAME       the Python to make the environment with (default: python3.12, python3.11 or python3)
  MMLK_PYTHON=NAME  use this environment as it is, install nothing; MMLK_PYTHON=python is the active one
  MMLK_VENV=DIR     make or reuse the environment there (default: .venv in the repository)
  MMLK_LOCK=FILE    install these versions (default: requirements/lock.txt)
  TMPDIR=DIR        where pip keeps its temporary files, if /tmp is small'

# What the user types to run the same script again.
again=$(printf 'bash %q' "$0")

say() {
    printf '[%3d s] %s\n' "$SECONDS" "$*"
}

# fail STATUS SENTENCE [LINE ...]: what is wrong in one sentence, then what to type.
fail() {
    local status=$1 line
    printf '\nERROR: %s\n' "$2" >&2
    shift 2
    for line in "$@"; do
        printf '  %s\n' "$line" >&2
    done
    exit "$status"
}

# The command as this user has to type it where it needs super-user rights.
as_root() {
    if [ "$(id -u)" = 0 ]; then printf '%s' "$1"; else printf 'sudo %s' "$1"; fi
}

absolute_path() {
    case $1 in
        /*) printf '%s' "$1" ;;
        *) printf '%s/%s' "$PWD" "$1" ;;
    esac
}

# The slash follows a link to a folder on another disk; the folder itself stays, since a lock may be held on it.
empty_folder() {
    find "$1/" -mindepth 1 -delete
}

# Free MiB on the file system that holds (or will hold) a folder; nothing where df cannot tell.
free_mib() {
    local folder=$1
    while [ ! -d "$folder" ]; do folder=$(dirname -- "$folder"); done
    # The column before `85%`: the name of the file system may hold blanks.
    df -Pk "$folder" 2>/dev/null |
        awk 'NR == 2 { for (i = NF; i > 3; i--) if ($i ~ /^[0-9]+%$/) { printf "%d", $(i - 1) / 1024; exit } }'
}

# ---- finding a Python -----------------------------------------------------------------------------------------------

python_version() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null </dev/null
}

# Sets $base_python. Every candidate is run, because a name on PATH may be a version manager's shim that leads nowhere,
# and a Debian without python3-venv has a Python that cannot make environments.
find_base_python() {
    local candidate path version seen='' without_venv='' old_ifs=$IFS
    local candidates='python3.12:python3.11:python3:python'
    IFS=:
    for candidate in ${PYTHON:-$candidates}; do
        IFS=$old_ifs
        path=$(command -v -- "$candidate" 2>/dev/null) || path=''
        if [ -z "$path" ]; then
            [ -z "${PYTHON:-}" ] || seen="$candidate (not found)"
            continue
        fi
        path=$(absolute_path "$path")
        version=$(python_version "$path") || version=''
        case $version in
            3.11 | 3.12)
                if "$path" -c 'import ensurepip, venv' >/dev/null 2>&1 </dev/null; then
                    base_python=$path
                    return
                fi
                [ -n "$without_venv" ] || without_venv=$path
                ;;
            '') seen="${seen:+$seen, }$candidate (does not run)" ;;
            *) seen="${seen:+$seen, }$candidate (version $version)" ;;
        esac
    done
    IFS=$old_ifs
    [ -z "$without_venv" ] || fail_without_venv "$without_venv"
    fail 2 "mmlk needs Python 3.11 or 3.12; found here: ${seen:-no Python at all}." \
        "Install one, on Debian or Ubuntu:  $(as_root 'apt-get install python3.11 python3.11-venv')   (or 3.12)" \
        "or say where one is:               PYTHON=/path/to/python3.11 $again" \
        "or use an environment of yours:    MMLK_PYTHON=/path/to/environment/bin/python $again"
}

fail_without_venv() {
    local version
    version=$(python_version "$1") || version=3
    fail 2 "Python $version ($1) cannot make virtual environments: its venv or ensurepip module is not installed." \
        "On Debian or Ubuntu type:  $(as_root "apt-get install python$version-venv")   (or: $(as_root 'apt-get install python3-venv'))" \
        "Then run the same command again."
}

# ---- installing -----------------------------------------------------------------------------------------------------

# A full disk is told before the installation, not after minutes of it. Measured: 5.3 GB installed, 2.8 GB that pip
# downloads into TMPDIR and keeps there until the end, and as much again in pip's cache.
check_disk() {
    local need=200 need_tmp=50 with_cache=400 free tmp=${TMPDIR:-/tmp}
    if grep -q '^torch==' "$lock"; then need=8500 need_tmp=3000 with_cache=11500; fi
    free=$(free_mib "$venv")
    if [ -n "$free" ] && [ "$free" -lt "$need" ]; then
        fail 2 "the disk of $venv is too full: $free MiB free, the environment and pip's downloads take $need MiB." \
            "Make room, or put the environment elsewhere:  MMLK_VENV=/path/on/a/larger/disk $again"
    fi
    if [ -n "$free" ] && [ "$free" -lt "$with_cache" ]; then
        say "Only $free MiB free: pip works without its cache"
        export PIP_NO_CACHE_DIR=1
    fi
    free=$(free_mib "$tmp")
    if [ -n "$free" ] && [ "$free" -lt "$need_tmp" ]; then
        fail 2 "the disk of $tmp is too full: $free MiB free, pip needs $need_tmp MiB there while it installs." \
            "Make room, or give pip another folder:  TMPDIR=/path/on/a/larger/disk $again"
    fi
}

# run_logged LOG COMMAND...: a command that may take minutes. On a terminal its own progress shows; elsewhere a line
# every 15 s says what it is at. LOG keeps what it printed (on a terminal: what it printed as errors).
run_logged() {
    local log=$1 child status=0 next=$((SECONDS + 15)) line
    shift
    if [ -t 1 ] && [ -t 2 ]; then
        # Only the errors go through tee: pip draws its progress bar on a terminal alone.
        { "$@" 2>&1 1>&3 3>&- | tee "$log" >&2; } 3>&1 || status=$?
        return "$status"
    fi
    "$@" >"$log" 2>&1 </dev/null &
    child=$!
    # A background job does not get the terminal's interrupt.
    trap 'kill "$child" 2>/dev/null; exit 130' INT
    trap 'kill "$child" 2>/dev/null; exit 143' TERM HUP
    while kill -0 "$child" 2>/dev/null; do
        sleep 0.2
        if [ "$SECONDS" -ge "$next" ]; then
            next=$((SECONDS + 15))
            line=$({ grep -E '^ *(Collecting|Downloading|Installing) ' "$log" || true; } | tail -n 1 |
                sed 's/^ *//; s/ (from .*//; s/^Installing.*/Unpacking into the environment/')
            say "    $(printf '%.80s' "${line:-still at it}")"
        fi
    done
    wait "$child" || status=$?
    trap - INT TERM HUP
    return "$status"
}

# pip with the settings that this installation relies on, whatever the user's configuration says.
run_pip() {
    local log=$venv/mmlk-pip.log status=0
    run_logged "$log" env PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
        "$venv/bin/python" -m pip "$@" || status=$?
    [ "$status" = 0 ] || explain_pip "$status" "$log"
}

# explain_pip STATUS LOG: pip failed; say why in one sentence and what to type.
explain_pip() {
    local status=$1 log=$2
    { grep -E '(^ *ERROR|^error|Error|/python): ' "$log" || true; } | tail -n 4 | cut -c1-300 >&2
    if grep -qiE 'No space left on device|Errno 28|Errno 122|quota exceeded' "$log"; then
        fail 2 "the disk became full while pip was installing." \
            "Make room: the environment takes 5.3 GB, and pip needs 3 GB in ${TMPDIR:-/tmp} meanwhile." \
            "Then run the same command again."
    fi
    # `from versions: none` is what pip says of an index that it cannot reach, once its retries are over.
    if grep -qiE 'Retrying \(|NewConnectionError|Timeout|ProxyError|SSLError|Connection ?(Error|Reset|refused|aborted|broken)|name resolution|Max retries|Network is unreachable|IncompleteRead' "$log" ||
        { [ "$(uname -sm)" = 'Linux x86_64' ] && grep -q 'from versions: none' "$log"; }; then
        fail 2 "the package index could not be reached, or the connection broke." \
            "Behind a proxy type first:     export HTTPS_PROXY=http://proxy.example.org:3128" \
            "To use a mirror type first:    export PIP_INDEX_URL=https://mirror.example.org/simple" \
            "Then run the same command again: it goes on with what pip has in its cache."
    fi
    if grep -qE 'No matching distribution|Could not find a version' "$log"; then
        fail 2 "the package index does not hold every version of $lock for this machine ($(uname -sm))." \
            "The lock is for Linux on x86-64. Elsewhere make an environment by hand and name it:" \
            "    python3 -m venv env && env/bin/pip install -e '${root}[$extra,tests]'" \
            "    MMLK_PYTHON=env/bin/python $again"
    fi
    fail "$status" "pip ended with status $status; what it said is in $log" \
        "Run the same command again. If that does not help, start over:  rm -rf '$venv'"
}

look_inside() {
    local command=$1
    shift
    "$venv/bin/python" -I "$root/tools/_environment.py" "$command" "$@"
}

write_state() {
    printf '%s\n' "$1" >"$venv/mmlk-environment"
}

# Prints what the environment needs: absent, foreign, interrupted, python, packages ..., project or ready.
environment_state() {
    local written='' state
    if [ ! -e "$venv" ] || [ -z "$(ls -A "$venv")" ]; then
        printf absent
        return
    fi
    [ ! -f "$venv/mmlk-environment" ] || read -r written <"$venv/mmlk-environment" || true
    if [ "$written" = installing ]; then
        printf interrupted
    elif [ -z "$written" ] && [ ! -f "$venv/pyvenv.cfg" ]; then
        printf foreign
    else
        state=$(look_inside inspect "$lock" "$root" "$venv/mmlk-environment" 2>/dev/null) || state='python broken'
        # An environment somebody made by hand is completed, but never deleted.
        case $written:$state in
            :python*) printf foreign ;;
            *) printf '%s' "$state" ;;
        esac
    fi
}

create_environment() {
    local output=''
    say "Making $venv with $("$base_python" -V 2>&1) ($base_python)"
    empty_folder "$venv"
    write_state installing
    if ! output=$("$base_python" -m venv "$venv" 2>&1 </dev/null); then
        empty_folder "$venv"
        case $output in
            *ensurepip* | *-venv*) fail_without_venv "$base_python" ;;
            *'No space left'*) fail 2 "the disk of $venv is full." "Make room, then run the same command again." ;;
        esac
        printf '%s\n' "$output" >&2
        fail 2 "$base_python could not make the environment $venv." \
            "Try another Python (PYTHON=/path/to/python3.11) or another place (MMLK_VENV=/path)."
    fi
}

# Packages without wheels are marked in the lock. They are built in isolation, which leaves out operators that would have
# to be compiled, with the build tools of the lock: pip up to 25.2 takes those from PIP_CONSTRAINT, a list separated by
# blanks, so that a path with blanks has to be a URL.
install_lock() {
    local sources url
    sources=$(sed -n 's/^\([A-Za-z0-9._-]*\)==.*# built from source$/\1/p' "$lock" | paste -s -d , -)
    if [ -z "$sources" ]; then
        run_pip install --no-deps --only-binary=:all: -r "$lock"
        return
    fi
    url=$("$venv/bin/python" -I -c 'import pathlib, sys; print(pathlib.Path(sys.argv[1]).as_uri())' "$lock")
    PIP_CONSTRAINT=$url PIP_BUILD_CONSTRAINT=$url run_pip \
        install --no-deps --only-binary=:all: --no-binary="$sources" -r "$lock"
}

install_packages() {
    local count
    count=$(grep -c '==' "$lock" || true)
    # An environment made by hand has no state yet, and gets none that would let the next run delete it.
    [ ! -f "$venv/mmlk-environment" ] || write_state installing
    if [ "$count" != 0 ]; then
        say "Installing the $count packages of ${lock#"$root"/} (the first time about 3 minutes and 5.3 GB)"
        install_lock
    fi
    # From here on an interruption, or a mistake in mmlk, costs no second installation of the packages.
    write_state unchecked
}

install_project() {
    local failures
    say 'Installing mmlk from this folder (editable)'
    run_pip install --no-deps --no-build-isolation --quiet -e "$root"
    say 'Importing everything once'
    if ! failures=$(look_inside verify "$lock" 2>&1 >/dev/null); then
        printf '%s\n' "$failures" | tail -n 20 >&2
        fail 1 "the environment $venv is installed, but what is named above cannot be imported." \
            "If the fault is in mmlk, mend it and run the same command again. Otherwise start over:  rm -rf '$venv'"
    fi
    write_state "$(look_inside stamp "$lock")"
}

# Waits for another run that is working on the same environment. The lock goes when this shell closes descriptor 9.
lock_environment() {
    command -v flock >/dev/null 2>&1 || return 0
    exec 9<"$venv"
    if ! flock -n 9; then
        say "Another run is preparing $venv; waiting for it"
        until flock -w 15 9; do say '    still waiting'; done
    fi
}

make_environment() {
    local state
    state=$(environment_state)
    if [ "$state" != ready ]; then
        mkdir -p "$venv" 2>/dev/null ||
            fail 2 "the folder $venv cannot be made." "Choose another place:  MMLK_VENV=/path $again"
        lock_environment
        state=$(environment_state)
    fi
    case $state in
        foreign)
            fail 2 "$venv was not made by this script and is no environment of Python 3.11 or 3.12." \
                "Move it away, or choose another place:  MMLK_VENV=/path $again"
            ;;
        absent | interrupted | python*)
            case $state in
                interrupted) say "$venv is unfinished: an earlier run was interrupted; making it anew" ;;
                python*) say "$venv does not run any more ($state); making it anew" ;;
            esac
            find_base_python
            check_disk
            create_environment
            install_packages
            install_project
            ;;
        packages*)
            say "$venv differs from ${lock#"$root"/} (${state#packages }); bringing it up to date"
            check_disk
            install_packages
            install_project
            ;;
        project) install_project ;;
    esac
    exec 9<&-
    python=$venv/bin/python
    say "Environment ready: $venv"
}

# ---- an environment that the user names -----------------------------------------------------------------------------

use_given_environment() {
    local origin errors
    python=$(command -v -- "$MMLK_PYTHON" 2>/dev/null) ||
        fail 2 "MMLK_PYTHON=$MMLK_PYTHON is not a program." "Give the path of a Python:  MMLK_PYTHON=/path/to/bin/python"
    python=$(absolute_path "$python")
    errors=$(mktemp)
    if ! origin=$(cd / && "$python" "$root/tools/_environment.py" check-given "$root" "$@" 2>"$errors"); then
        tail -n 20 "$errors" >&2
        rm -f "$errors"
        fail 2 "the environment of MMLK_PYTHON=$MMLK_PYTHON lacks what is named above, and it is left as it is." \
            "Complete it:                        $MMLK_PYTHON -m pip install '${root}[$extra,tests]'" \
            "or let this script make its own:    env -u MMLK_PYTHON $again"
    fi
    rm -f "$errors"
    if [ "$origin" = path ]; then
        export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
        say "mmlk is taken from $root (PYTHONPATH)"
    fi
    say "Using the environment of $python"
}

mmlk_prepare() {
    local suffix=''
    extra=openmmlab
    if [ "${family:-upstream}" != upstream ]; then suffix=-$family extra=$family; fi
    lock=$(absolute_path "${MMLK_LOCK:-$root/requirements/lock$suffix.txt}")
    venv=$(absolute_path "${MMLK_VENV:-$root/.venv}$suffix")
    [ -f "$root/setup.py" ] ||
        fail 2 "$root is not a checkout of mmlk; this script works in one only." "Clone the repository and run it there."
    [ -t 0 ] || export PIP_NO_INPUT=1
    unset PYTHONHOME
    if [ -n "${MMLK_PYTHON:-}" ]; then
        use_given_environment "$@"
    else
        [ -f "$lock" ] || fail 2 "the lock $lock does not exist."
        make_environment
    fi
    # Programs that are started by name (python, torchrun, ruff) come from the same environment.
    PATH=$(dirname -- "$python"):$PATH
    export PATH PYTHONUNBUFFERED=1 MPLBACKEND="${MPLBACKEND:-Agg}"
    # More threads than this only get in each other's way on pictures of the size used here.
    if [ -z "${OMP_NUM_THREADS:-}" ]; then
        OMP_NUM_THREADS=$(nproc 2>/dev/null || echo 2)
        [ "$OMP_NUM_THREADS" -le 4 ] || OMP_NUM_THREADS=4
        export OMP_NUM_THREADS
    fi
}
