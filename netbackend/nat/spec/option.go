package spec

import "strings"

// ForShell returns r as an option of the command line, ready to be pasted into a shell: quoted where a shell would read it otherwise. One address
// alone has no length behind it. Passwords are not in it.
func (r *Rule) ForShell() string {
	text := r.String()
	if !r.IsByName() && r.Prefix.IsSingleIP() {
		text = strings.Replace(text, r.Prefix.String(), r.Prefix.Addr().String(), 1)
	}
	if strings.ContainsAny(text, ";*") {
		text = "'" + text + "'"
	}
	return r.Option() + " " + text
}
