"""The scripts for completion in shells: each asks `virtstore complete` (complete.py)."""

from __future__ import annotations

from typing import Final

_BASH: Final = r"""# bash completion of virtstore
_virtstore() {
    mapfile -t COMPREPLY < <(virtstore complete bash "$2" "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
}
complete -o nospace -F _virtstore virtstore
"""

_ZSH: Final = r"""#compdef virtstore
# zsh completion of virtstore
_virtstore() {
    local line word shown
    local -a ended open ended_shown open_shown
    for line in "${(@f)$(virtstore complete zsh "${(@Q)words[2,CURRENT-1]}" \
            "$IPREFIX${(Q)PREFIX}" 2>/dev/null)}"; do
        word=${line%%$'\t'*} shown=${${line#*$'\t'}[1,COLUMNS-1]}
        case $word in
        '') ;;
        *[/:=]) open+=("$word") open_shown+=("$shown") ;;
        *) ended+=("$word") ended_shown+=("$shown") ;;
        esac
    done
    compadd -l -d open_shown -S '' -a open
    compadd -l -d ended_shown -a ended
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _virtstore "$@"
else
    compdef _virtstore virtstore
fi
"""

_FISH: Final = r"""# fish completion of virtstore
function __virtstore_complete
    set -l before (commandline -opc)
    set -l begun (commandline -ct)
    virtstore complete fish $before[2..] "$begun" 2>/dev/null
end
complete -c virtstore -f -a '(__virtstore_complete)'
"""

SCRIPTS: Final = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
