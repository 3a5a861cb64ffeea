"""Human evaluation: people judge answers, blindly, on a page; what they say is kept, and said with how sure it is."""
