# shellcheck shell=bash
# bash completion for celery-docker. The lines that name each command come from its table of commands.

_celery_docker() {
    local word command='' flags='' valued='' literal='' operands='' expected='' index
    local current=${COMP_WORDS[COMP_CWORD]}
    COMPREPLY=()
    for ((index = 1; index < COMP_CWORD; index++)); do
        word=${COMP_WORDS[index]}
        if [[ -z $command ]]; then
            command=$word
            case $command in
                # @COMMANDS@
            esac
        elif [[ $word == = ]]; then
            continue
        elif [[ -n $expected ]]; then
            expected=''
        elif [[ " $valued " == *" $word "* ]]; then
            expected=$word
        elif [[ $word != -* && -n $literal ]]; then
            # All words after the image are the job's command.
            compopt -o default 2>/dev/null
            return
        fi
    done
    [[ $current == = ]] && current=''
    if [[ -z $command ]]; then
        _celery_docker_offer '@NAMES@' "$current"
        return
    fi
    case $command:$expected in
        # @VALUES@
    esac
    if [[ -n $expected ]]; then
        return
    elif [[ $current == -* ]]; then
        _celery_docker_offer "$flags" "$current"
    else
        _celery_docker_offer "$operands" "$current"
    fi
}

# Offer those of the words that begin with what was typed.
_celery_docker_offer() {
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "$2")
}

complete -F _celery_docker celery-docker
