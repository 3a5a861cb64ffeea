# What all targets share: words, dry runs, patience, money. Sourced by launch.sh.
# shellcheck shell=bash disable=SC2034,SC2154  # the variables are launch.sh's

# Standard error as it was at the start: a trap may speak while a command's errors go to a file.
exec 8>&2
say() { printf '%(%H:%M:%S)T %s: %s\n' -1 "${name:-launch}" "$*" >&8; }

# Input it cannot use.
refuse() {
    say "$*"
    exit 2
}

# The end of a launch that did not come to its end.
give_up() {
    say "$*"
    exit 1
}

# A command as a person would type it.
typed() {
    local word words=()
    for word in "$@"; do
        [[ $word =~ ^[A-Za-z0-9_./:=@%+,~^-]+$ ]] && words+=("$word") || words+=("${word@Q}")
    done
    echo "${words[*]}"
}

# call COMMAND ...: runs it; in a dry run prints it instead.
call() {
    if [[ -n $dry_run ]]; then
        typed "$@"
    else
        "$@" 8>&- 9>&- # what it leaves running holds neither this terminal nor the launcher's lock
    fi
}

# try COMMAND ...: like call, with its errors in $errors, and again when they are of the kind that passes.
try() {
    local code attempt
    for attempt in 1 2 3; do
        code=0
        call "$@" 2>"$errors" || code=$?
        ((code)) || return 0
        grep -Eqi 'unavailable|connection (reset|refused|timed out)|temporar|internal error|deadline|HTTP(Error)? 50[0-9]|name resolution' "$errors" || break
        ((attempt < 3)) && pause
    done
    return "$code"
}

# Between two looks at something that takes its time.
pause() { [[ -n $dry_run ]] || sleep "${JAXCHAT_CLOUD_PAUSE:-20}"; }

last_error() { awk 'NF { last = $0 } END { print substr(last, 1, 300) }' "$errors"; }

# need OPTION VALUE MEANING: an option that this target cannot do without.
need() { [[ -n $2 ]] || refuse "--$1 is missing: $3"; }

need_program() {
    [[ -n $dry_run ]] || command -v "$1" >/dev/null || refuse "$1 is not installed here; $2"
}

# What `jaxchat plan` reckons with, too.
prices=jaxchat/plan/prices.toml

# price KIND COUNT CAPACITY: dollars an hour into $hourly (empty when unknown), in words into $cost.
price() {
    local kind=${1,,} on_demand spot each most=
    case $kind in
        v5litepod) kind=v5e ;;
        a100) kind=a100-40gb ;;
        a100-80gb) kind=a100 ;;
    esac
    IFS=, read -r on_demand spot < <(awk -F '[ \t=#]+' -v kind="$kind" '
        /^\[/ { spot = $1 == "[spot]" }
        $1 == kind { price[spot + 0] = $2 }
        END { print price[0] "," price[1] }' "$root/$prices")
    each=$on_demand
    if [[ $3 == spot && $spot =~ ^[0-9.]+$ ]]; then
        each=$spot
    elif [[ $3 == spot ]]; then
        most="at most "
    fi
    hourly=
    cost="an unknown price ($1 is not in $prices)"
    if [[ -n $each ]]; then
        hourly=$(awk -v each="$each" -v count="$2" 'BEGIN { printf "%.2f", each * count }')
        cost="$most\$$hourly an hour ($2 x \$$each, $prices)"
    fi
}

# Asks before something is created that costs money.
confirm() {
    local answer
    say "$1 will cost $cost"
    [[ -z $dry_run && -z $yes ]] || return 0
    [[ -t 0 ]] || refuse "nobody is here to confirm the cost; pass --yes"
    read -r -p "Create it? [y/N] " answer
    [[ $answer == [yY]* ]] || refuse "nothing was created"
}

# render FILE NAME ...: FILE with each @NAME@ replaced by the value of the variable of that name.
render() {
    local text variable
    text=$(<"$1")
    shift
    for variable in "$@"; do
        text=${text//"@$variable@"/"${!variable}"}
    done
    printf '%s\n' "$text"
}

# string TEXT: a JSON string, which is YAML as well.
string() {
    local text=$1
    text=${text//\\/\\\\} text=${text//\"/\\\"} text=${text//$'\n'/\\n} text=${text//$'\t'/\\t} text=${text//$'\r'/\\r}
    echo "\"$text\""
}

# json STRING ...: a JSON array of them.
json() {
    local word list=
    for word in "$@"; do list+=", $(string "$word")"; done
    echo "[${list#, }]"
}
