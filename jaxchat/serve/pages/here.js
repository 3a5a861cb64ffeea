// Names this server in the line that is to be copied.
document.querySelector(".here").textContent = location.origin;
