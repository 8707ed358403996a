package wire

import (
	"fmt"
	"strings"
)

// successionTitle is the second line of every note about a change of keys. No checkpoint has it there: theirs is a number.
const successionTitle = "sallyport key succession v1"

// SuccessionText is the text with which a key hands its name over to the next one. Last is what was signed last under the
// name, of size 0 with the empty tree's root where nothing was; the keys are verifier keys of C2SP signed-note.
func SuccessionText(last Checkpoint, oldKey, newKey string) []byte {
	return fmt.Appendf(nil, "%s\n%s\nold %s\nnew %s\nsize %d\nroot %s\n", last.Origin, successionTitle, oldKey, newKey, last.Size, Base64(last.Root))
}

// SplitNotes splits notes that stand one after another, each followed by an empty line but the last.
func SplitNotes(text string) []string {
	var notes []string
	for text != "" {
		body, rest, ok := strings.Cut(text, "\n\n")
		if !ok {
			return append(notes, text)
		}
		signatures, more, _ := strings.Cut(rest, "\n\n")
		if more != "" {
			signatures += "\n"
		}
		notes, text = append(notes, body+"\n\n"+signatures), more
	}
	return notes
}
