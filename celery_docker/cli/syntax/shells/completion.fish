# fish completion for celery-docker. The lines that name each command come from its table of commands.

# A file's name is offered only where the job's own command may stand.
complete -c celery-docker -n 'not __fish_seen_subcommand_from @LITERAL@' -f

# @PROGRAM@
# @COMMANDS@
# @FLAGS@
