# shellcheck shell=sh disable=SC2034  # some variables are for those who source it
# Sourced by submit, status and cancel: requests to celery-docker-api with curl, since Python takes longer to start than an
# answer to come. The service is that of CELERY_DOCKER_BROKER_URL, of the user's client.conf, of the host's, or the socket.

config=${XDG_CONFIG_HOME:-${HOME:-/nonexistent}/.config}/celery-docker
socket=/run/celery-docker/api.sock

die() {
    echo "celery-docker: $*" >&2
    exit 1
}

# setting NAME TEXT: the value of a setting, TEXT being that of the environment; then comes that of the user's file, and
# that of the host's. A Redis is not for this client.
setting() {
    for value in "$2" "$(from_file "$config/client.conf" "$1")" "$(from_file /etc/celery-docker/client.conf "$1")"; do
        case $value in "" | redis:* | rediss:* | unix:*) ;; *) printf '%s\n' "$value" && return ;; esac
    done
}

from_file() {
    sed -n "s/^[[:space:]]*$2=[\"']\{0,1\}\([^\"']*\).*/\1/p" "$1" 2>/dev/null | tail -n 1
}

# ask SECONDS PLACE [BODY]: set $status to that of the answer, 000 without one, and $answer to its text; $trouble to why there
# is none that could come later.
ask() {
    limit_s=$1 place=/api/v1/$2
    shift 2
    [ $# = 0 ] || set -- --data-binary "$1"
    url=$(setting CELERY_DOCKER_BROKER_URL "${CELERY_DOCKER_BROKER_URL:-}")
    token=
    case ${url:=http+unix://$socket} in
    http+unix://*)
        set -- "$@" --unix-socket "${url#http+unix://}"
        url=http://localhost
        ;;
    https://* | http://127.0.0.1:* | http://localhost:*)
        token=${CELERY_DOCKER_TOKEN:-}
        file=$(setting CELERY_DOCKER_TOKEN_FILE "${CELERY_DOCKER_TOKEN_FILE:-}")
        [ -n "$token" ] || read -r token <"${file:=$config/token}" || die "there is no token in $file"
        ;;
    *) die "CELERY_DOCKER_BROKER_URL=$url must be https://HOST, or http+unix://$socket" ;;
    esac
    [ -z "$token" ] || token="header = \"Authorization: Bearer $token\""
    # The token is in no argument, which others could see.
    trouble=
    answer=$(curl --silent --max-time "$limit_s" --write-out '\n%{http_code}' "$@" --config - "${url%/}$place" <<END
$token
END
    ) || case $? in
    60) trouble="the certificate of $url is not valid; correct the URL, or let SSL_CERT_FILE name a file with what it was signed with" ;;
    esac
    status=$(printf '%s\n' "$answer" | tail -n 1)
    answer=$(printf '%s\n' "$answer" | sed '$d')
}

# What a refusal says.
complaint() {
    printf '%s\n' "$answer" | sed -nE 's/.*"error": *"(([^"\\]|\\.)*)".*/\1/p' | sed 's/\\"/"/g; s/^jobs\[0\]: //'
}
