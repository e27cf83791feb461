// Package witness remembers which addresses the name service has answered to a guest for which names, and by which name a flow was opened.
//
// There is one Table for each guest, shared by the threads of its queue pairs. It is written when an answer passes, and asked for each
// new flow. It is bounded: what was answered longest ago is forgotten first. It knows neither rules nor messages.
package witness
