#compdef celery-docker
# zsh completion for celery-docker. The lines that name each command come from its table of commands.

_celery_docker() {
    local curcontext=$curcontext state line
    typeset -A opt_args
    _arguments -C '(-)'{-h,--help}'[show the help]' '(-)--version[show the version]' '1: :->command' '*:: :->words'
    case $state in
        command)
            local -a commands=(
                # @NAMES@
            )
            _describe -t commands command commands
            ;;
        words)
            case $words[1] in
                # @COMMANDS@
            esac
            ;;
    esac
}

if [[ $funcstack[1] == _celery_docker ]]; then
    _celery_docker "$@"
else
    compdef _celery_docker celery-docker
fi
